"""GS-LoRA and GS-LoRA++: a class is forgotten in low-rank adapters, and group sparsity leaves few of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from fedunlearn.audit.counts import MINIMUM_SAMPLES
from fedunlearn.channels.adapter_places import adapter_places
from fedunlearn.channels.adapters import HIGHEST_RANK, AdapterPlan, Adapters, without_adapters
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import ClientError, RequestError
from fedunlearn.randomness import derive_seed
from fedunlearn.strategies.bounded_terms import Bounds
from fedunlearn.strategies.bounded_training import (
    Objective,
    adamw,
    adaptive_weights,
    gradient,
    shrink_groups,
    train_adapters,
)
from fedunlearn.strategies.estimate import Estimate, Facts
from fedunlearn.strategies.method import ClientReply, Down, Need, Phase, Reply, Scope, State, Work, methods
from fedunlearn.strategies.nabla_tau_terms import Terms
from fedunlearn.strategies.option import choice, number, positive, whole
from fedunlearn.strategies.prototypes import ASK_PROTOTYPES, PROTOTYPES, class_sums, means
from fedunlearn.strategies.recovery import local_recipe
from fedunlearn.strategies.role_counts import AverageByTerms, Combine, count_phases, totals

RATE, LOWEST_RATE = 1e-2, 1e-3
"""AdamW's learning rate in the first round, and the share of it at which the last would come out."""
ABOVE_GUESSING = 4.0
"""Nats that the bound of the forget loss lies above the loss of guessing, log K."""
MODES, BY, AWAY_FROM = ("averaged", "exact"), ("sample", "batch"), ("gone", "own")
GROUP_WEIGHTS = ("adaptive", "equal")
RANK, FORGET_WEIGHT, SPARSITY, PUSH, PUSH_BOUND, PULL = 4, 0.2, 0.01, 0.05, 18.0, 0.001
GROUPS_LEFT = "gs-lora/groups-left"
"""In `State.arrays`: how many groups of adapters are not zero."""
_FORGOTTEN, _RETAINED, _NUMBERS, _GONE, _FIRST, _SECOND, _STEP = (
    f"gs-lora/{name}" for name in ("forgotten", "retained", "numbers", "gone", "first", "second", "step")
)

OPTIONS = frozenset(
    {"mode", "rank", "scale", "bound", "hinge", "forget_weight", "sparsity", "group_weights", "warm_up", "away_from"}
)
PROTOTYPE_OPTIONS = frozenset({"push", "push_bound", "pull"})


@dataclass(frozen=True)
class GroupSparseAdapters:
    """Minimise (loss of the retained) + beta x relu(bound - loss of the forgotten) + alpha x (norms of the groups).

    Only low-rank adapters move: on both feed-forward layers of each block of a transformer, a group for each block, or
    on every layer with channels of another network, a group for each. After each step every group is shrunk (the
    proximal step of the group lasso), and one that everybody has made zero is sent no more. After the last round
    adapters are merged into the weights. GS-LoRA++ also drives features of the forgotten off their class's mean (which
    the target computes and keeps), and pulls retained ones towards theirs (which clients send as sums over 20 samples
    and more; where nobody has as many, each uses its own).

    In the "averaged" mode A is drawn from a seed that all share and B alone moves, so that the mean of clients' B is
    the mean of their adapters. In the "exact" mode a round is one step: A and B move, clients answer with gradients
    of a batch each, and the server takes the step of AdamW that one machine would take with all the batches.

    Options: `mode` ("averaged"); `rank` (4); `scale` s (1 / rank); `bound` (log K + 4 nats); `hinge`: each "sample"
    is held against the bound, or the "batch"'s mean, as the authors do; `away_from`: what the loss of a forgotten
    sample is the loss of, its class or any that left everywhere so far ("gone"), or its "own" class, as the authors
    have it, which lets classes come back that were forgotten earlier; `forget_weight` beta (0.2); `sparsity` alpha
    (0.01), from round `warm_up` on (a fifth of the rounds, at least one); `group_weights`: in each round a group's norm
    counts the more the smaller the group has become ("adaptive", so that clients agree on which to leave), or all count
    alike ("equal", as the authors have it). Of GS-LoRA++ alone: `push` (0.05),
    `push_bound` (18) and `pull` (0.001). The learning rate is AdamW's, 0.01, and falls over the rounds as a cosine.
    """

    name: str
    prototypes: bool
    source: str
    scopes: frozenset[Scope] = frozenset({"classes", "class-everywhere"})
    needs: frozenset[Need] = frozenset({"target", "class-scores"})
    messages: frozenset[str] = frozenset({ASK_PROTOTYPES.message})
    earnest: bool = False

    @property
    def options(self) -> frozenset[str]:
        """Names of its options."""
        return OPTIONS | PROTOTYPE_OPTIONS if self.prototypes else OPTIONS

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """Two counts, prototypes where retained features are pulled, and `settings.rounds` joint rounds."""
        bounds = self.bounds(settings, classes=2)
        whole(settings, "rank", RANK, lowest=1, highest=HIGHEST_RANK)
        positive(settings, "scale", 1.0)
        positive(settings, "forget_weight", FORGET_WEIGHT)
        number(settings, "sparsity", SPARSITY)
        whole(settings, "warm_up", 0)
        exact = choice(settings, "mode", MODES) == "exact"
        choice(settings, "away_from", AWAY_FROM)
        choice(settings, "group_weights", GROUP_WEIGHTS)
        asked = count_phases(_FORGOTTEN, _RETAINED)
        if bounds.pull:
            asked.append(ASK_PROTOTYPES)
        asked[-1] = replace(asked[-1], combine=partial(_attach, exact, asked[-1].combine))
        compute = partial(_differentiate if exact else _train, method=self)
        joint = []
        for round in range(settings.rounds):
            mean = AverageByTerms(None, partial(_after_round, round, exact), _terms, _FORGOTTEN, _RETAINED)
            joint.append(Phase("train.joint", "all", partial(_send, round), compute, mean))
        return [*asked, *joint]

    def estimate(self, settings: UnlearnSettings, facts: Facts) -> Estimate | None:
        """In the averaged mode: B has `rank` numbers a channel. In the exact one it is read off the phases (None)."""
        if choice(settings, "mode", MODES) == "exact":
            return None
        sent = 2 * whole(settings, "rank", RANK, lowest=1) * facts.channel_bytes * facts.everybody
        # Each retained batch is paired with one of the forget set.
        passes = 2 * settings.local_epochs * facts.everybody
        seconds = settings.rounds * passes * facts.seconds_per_epoch
        return Estimate(settings.rounds, settings.rounds * sent, seconds)

    def bounds(self, settings: UnlearnSettings, classes: int) -> Bounds:
        """What the settings ask of forgotten and retained samples."""
        by_sample = choice(settings, "hinge", BY) == "sample"
        loss = positive(settings, "bound", math.log(classes) + ABOVE_GUESSING)
        if not self.prototypes:
            return Bounds(loss, by_sample)
        # In the objective it stands beside the forget loss, which has its own weight.
        push = number(settings, "push", PUSH) / positive(settings, "forget_weight", FORGET_WEIGHT)
        push_bound, pull = positive(settings, "push_bound", PUSH_BOUND), number(settings, "pull", PULL)
        return Bounds(loss, by_sample, push, push_bound, pull)


class PrototypicalAdapters(GroupSparseAdapters):
    """As GS-LoRA, and features of the forgotten are driven off their class's mean, retained ones pulled to theirs."""


def _send(round: int, state: State) -> Down:
    """The adapters, and what a client needs to weigh its terms and to learn as fast as the others."""
    terms = _terms(state)
    strength = _sparsity(round, state.settings) * (1 - terms.alpha)  # as the retain term is weighed
    numbers = [terms.alpha, terms.forgotten, terms.retained, rate_in(round, state.settings), strength]
    gone = state.gone if choice(state.settings, "away_from", AWAY_FROM) == "gone" else ()
    arrays = {_NUMBERS: np.array(numbers, np.float64), _GONE: np.array(gone, np.int64)}
    if PROTOTYPES in state.arrays:
        arrays[PROTOTYPES] = state.arrays[PROTOTYPES]
    return Down(packed=state.packed(), arrays=arrays)


def rate_in(round: int, settings: UnlearnSettings) -> float:
    """The learning rate of a round, 0 and up: a cosine from the first to a thousandth of it after the last."""
    first = settings.learning_rate or RATE
    return first * (LOWEST_RATE + (1 - LOWEST_RATE) * (1 + math.cos(math.pi * round / settings.rounds)) / 2)


def _sparsity(round: int, settings: UnlearnSettings) -> float:
    """The weight of the groups' norms in a round: none while warming up."""
    begins = whole(settings, "warm_up", max(1, settings.rounds // 5))
    return number(settings, "sparsity", SPARSITY) if round >= begins else 0.0


def _group_weights(groups: Sequence[Sequence[Tensor]], sparsity: float, settings: UnlearnSettings) -> list[float]:
    """The weight of each group's norm in a round, as the adapters were sent: the same at every client."""
    if choice(settings, "group_weights", GROUP_WEIGHTS) == "equal":
        return [sparsity] * len(groups)
    return adaptive_weights(groups, sparsity)


def _terms(state: State) -> Terms:
    """beta and 1, as shares of their sum, and over how many samples each term is a mean."""
    beta = positive(state.settings, "forget_weight", FORGET_WEIGHT)
    return Terms(beta / (1 + beta), *totals(state, _FORGOTTEN, _RETAINED))


def _attach(exact: bool, before: Combine, state: State, replies: Sequence[ClientReply]) -> State:
    """The state once all queries are answered, with adapters that add nothing yet.

    Raises RequestError where the server cannot build the network, whose parts say where adapters go.
    """
    state = before(state, replies)
    if state.network is None:
        raise RequestError("adapters need the network at the server; give `Architecture` a `network`.")
    rank = whole(state.settings, "rank", RANK, lowest=1)
    plan = AdapterPlan(
        groups=adapter_places(state.network(state.base), state.layout),
        rank=rank,
        scale=positive(state.settings, "scale", 1 / rank),
        seed=derive_seed(state.seed, "adapters"),
        both=exact,
    )
    if exact:
        # A step is a mean over batches, not over all samples.
        most = state.training.batch_size
        capped = {name: np.minimum(state.arrays[name], [[np.inf, most]]) for name in (_FORGOTTEN, _RETAINED)}
        state = replace(state, arrays={**state.arrays, **capped})
    return state.with_adapters(Adapters.fresh(plan, state.base))


def _objective(work: Work, bounds: Bounds, forgotten: int, retained: int) -> Objective:
    """What this client minimises in a round with so many samples of either kind."""
    alpha, *over = work.arrays[_NUMBERS][:3].tolist()
    coefficients = Terms(alpha, *over).coefficients(forgotten, retained)
    width = work.base[work.layout.output[0]].shape[1]
    own = shared = torch.zeros(work.classes, width)
    known = torch.zeros(work.classes, dtype=torch.bool)
    with without_adapters(work.model):
        if bounds.push and forgotten:
            own, _ = means(class_sums(work, work.forget))
        if bounds.pull and retained:
            shared, known = means(class_sums(work, work.retain))
    if bounds.pull and PROTOTYPES in work.arrays:
        everybodys, there = means(torch.from_numpy(work.arrays[PROTOTYPES].copy()))
        shared, known = torch.where(there[:, None], everybodys, shared), known | there
    gone = torch.zeros(work.classes, dtype=torch.bool)
    gone[torch.from_numpy(work.arrays[_GONE].copy())] = True
    return Objective(work.task, work.layout.output_layer, bounds, *coefficients, own, shared, known, gone)


def _leaves(work: Work) -> dict[str, Tensor]:
    return {name: leaf for name, leaf in work.model.named_parameters() if name in work.portion.rows}


def _train(work: Work, method: GroupSparseAdapters) -> Reply:
    """Local passes."""
    objective = _objective(work, method.bounds(work.settings, work.classes), len(work.forget), len(work.retain))
    recipe, rate = local_recipe(work.training, work.settings), float(work.arrays[_NUMBERS][3])
    assert work.plan is not None  # since the first query was answered
    leaves, strength = _leaves(work), float(work.arrays[_NUMBERS][4])
    groups = [[leaves[name] for name in names] for names in work.plan.names_by_group()]
    weights = _group_weights(groups, strength, work.settings)
    trained = train_adapters(
        work.model, groups, objective, work.forget, work.retain, rate, recipe, work.generator, weights
    )
    held = len(work.forget) + len(work.retain)
    return work.updated(held, loss=trained.mean_loss, epochs=trained.seen / held, batches=trained.batches)


def _differentiate(work: Work, method: GroupSparseAdapters) -> Reply:
    """The gradient of one batch of either kind."""
    most = work.training.batch_size
    forget, retain = (samples.some(most, work.generator) for samples in (work.forget, work.retain))
    objective = _objective(work, method.bounds(work.settings, work.classes), len(forget), len(retain))
    found, value = gradient(work.model, _leaves(work), objective, forget, retain)
    seen, held = len(forget) + len(retain), len(work.forget) + len(work.retain)
    arrays = {name: part.numpy() for name, part in found.items()}
    numbers = {"num-examples": held, "epochs": seen / held, "batches": 1}
    # Of few samples it would say too much of each of them; the guard sees only how many the client holds.
    return Reply(arrays, numbers | ({"loss": value} if seen >= MINIMUM_SAMPLES else {}))


def _after_round(round: int, exact: bool, before: State, averaged: State) -> State:
    """The state after a round: without groups that are zero, and after the last one merged."""
    after = _stepped(before, averaged, round) if exact else averaged
    assert after.adapters is not None  # since the first query was answered
    adapters = after.adapters.without_zeros()
    if not adapters.plan.groups:
        raise ClientError("every group of adapters has become zero, and nothing is forgotten; ask for less `sparsity`.")
    left = {GROUPS_LEFT: np.array([float(len(adapters.plan.groups))])}
    after = replace(after.with_adapters(adapters), arrays={**after.arrays, **left})
    # Merged: nothing is left for a later phase.
    return replace(after, adapters=None, arrays=left) if round == before.settings.rounds - 1 else after


def _stepped(before: State, averaged: State, round: int) -> State:
    """One step of AdamW and of the group lasso from the adapters that were sent; the clients' mean is the gradient."""
    assert before.adapters is not None and averaged.adapters is not None
    beta = positive(before.settings, "forget_weight", FORGET_WEIGHT)
    leaves = {name: factor.clone().requires_grad_() for name, factor in before.adapters.factors.items()}
    groups = [[leaves[name] for name in names] for names in before.adapters.plan.names_by_group()]
    weights = _group_weights(groups, _sparsity(round, before.settings), before.settings)
    optimizer = adamw(list(leaves.values()), rate_in(round, before.settings))
    taken = int(before.arrays.get(_STEP, np.zeros(1))[0])
    for name, leaf in leaves.items():
        # Clients divide by the sum of the two weights, 1 + beta.
        leaf.grad = averaged.adapters.factors[name] * (1 + beta)
        if taken:
            first, second = (torch.from_numpy(before.arrays[f"{of}:{name}"].copy()) for of in (_FIRST, _SECOND))
            optimizer.state[leaf] = {"step": torch.tensor(float(taken)), "exp_avg": first, "exp_avg_sq": second}
    optimizer.step()
    shrink_groups(groups, optimizer, weights)
    arrays = {**before.arrays, _STEP: np.array([taken + 1.0])}
    for name, leaf in leaves.items():
        arrays[f"{_FIRST}:{name}"] = optimizer.state[leaf]["exp_avg"].numpy()
        arrays[f"{_SECOND}:{name}"] = optimizer.state[leaf]["exp_avg_sq"].numpy()
    factors = {name: leaf.detach() for name, leaf in leaves.items()}
    return replace(before, arrays=arrays).with_adapters(replace(before.adapters, factors=factors))


_PAPER = "Zhao et al. 2024, Continual Forgetting for Pre-trained Vision Models (GS-LoRA, CVPR, arXiv 2403.11530)"
_OURS = (
    "reconstruction: everything federated, the proximal step and its weights, each sample held against the bound, "
    "classes that are gone, evaluation mode, AdamW anew in each round of the averaged mode, places in networks without "
    "attention, all weights"
)

methods.register("gs-lora", GroupSparseAdapters("gs-lora", False, f"{_PAPER}; {_OURS}"))
methods.register(
    "gs-lora-plus-plus",
    PrototypicalAdapters(
        "gs-lora-plus-plus",
        True,
        f"Practical Continual Forgetting for Pre-trained Vision Models (GS-LoRA++, arXiv 2501.09705); {_OURS}",
    ),
)
