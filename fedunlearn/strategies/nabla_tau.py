"""nabla-tau: the forget set's loss is raised to that of unseen data, and no further, while the rest is trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from fedunlearn.audit.counts import MINIMUM_SAMPLES
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import ClientError, SettingsError
from fedunlearn.strategies.aggregation import average, mean_number
from fedunlearn.strategies.gated_training import Gated, GatedResult, mean_loss, train_gated, train_paired
from fedunlearn.strategies.localisation import where_asked
from fedunlearn.strategies.method import (
    EVERY_SCOPE,
    ClientReply,
    Down,
    Need,
    Phase,
    Reply,
    Scope,
    State,
    Work,
    methods,
)
from fedunlearn.strategies.nabla_tau_terms import Terms, alpha_in, first_alpha, forget_passes, rate_in
from fedunlearn.strategies.option import choice, number, whole
from fedunlearn.strategies.recovery import local_recipe, send_packed, train_on_retained
from fedunlearn.strategies.role_counts import AverageByTerms, keep_counts, say_retained, totals
from fedunlearn.tasks.base import loss_of_guessing
from fedunlearn.tasks.training import MakeOptimizer, train_locally

TAU_KINDS = ("held-out", "class", "log-k")
OPTIMIZERS = ("adamw", "sgd")
GATES = ("batch", "sample")
ADAMW_RATE = 1e-3
"""The authors'."""
ASKED = ("held-out", "class")
"""Kinds of tau that clients are asked for; the others need nobody."""
TAU_MESSAGE = "query.tau"
CLASSES = "classes"
"""The one array that clients answer with, (K,): which classes are forgotten, or the same mean loss in each place."""
_FORGOTTEN, _RETAINED, _KINDS, _TAU, _ALPHA, _HOLDERS = (
    f"nabla-tau/{name}" for name in ("forgotten", "retained", "classes", "tau", "alpha", "holders")
)


@dataclass(frozen=True)
class NablaTau:
    """Minimise alpha x relu(tau - loss of the forget set)^2 + (1 - alpha) x (loss of the retained samples).

    Tau is the mean loss of samples that clients hold out of all training. Who has both kinds of samples pairs each
    retained batch with one of the forget set; who has one kind minimises its term alone, a target that keeps nothing
    in as many steps as the others take. The server weighs the roles so that one step is the step of one machine.
    Alpha falls linearly over the rounds. Nothing but a loss is needed of a task, unless tau is "class" or "log-k".

    Options: `tau`: "held-out" (clients' held-out loss, by their samples), "class" (of the forgotten classes alone),
    "log-k" (the loss of guessing among K classes) or a number; `tau_every`: rounds after which it is measured again
    (1; the authors' 5 are passes over the forget set, of which a round has several); `alpha`: in the first round, 0
    to 1 (5/3 of the forgotten share); `gate`: on the mean of a "batch" (the authors') or on each "sample", so that
    those with a large loss do not hide those that are still known by heart; `optimizer`: "adamw" (the authors'; it
    begins anew in each round, at `learning_rate`, 0.001 where none is asked for, which falls over the rounds to a
    tenth) or "sgd" (the federation's own gradient descent, with which alpha 0 is fine-tuning, bit for bit);
    `channels`: "all" move, or those "selected" by localisation and the output layer, of which nothing is reset;
    `attribution` and `ranking` are then those of `selective-channels`.
    """

    name: str = "nabla-tau"
    source: str = (
        "Trippa et al. 2024, arXiv 2403.14339; reconstruction: everything federated, AdamW anew in each round, "
        "retained batches in training mode, tau of forgotten classes"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target"})
    options: frozenset[str] = frozenset(
        {"tau", "tau_every", "alpha", "gate", "optimizer", "channels", "attribution", "ranking"}
    )
    earnest: bool = False

    def needs_with(self, settings: UnlearnSettings) -> frozenset[Need]:
        """Log K is the loss of guessing a class."""
        return frozenset({"class-scores"}) if settings.options.get("tau") == "log-k" else frozenset()

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """Localisation where it is asked for, two counts, then `settings.rounds` rounds, tau before those it is due."""
        tau, every = tau_asked(settings), whole(settings, "tau_every", 1, lowest=1)
        alpha = number(settings, "alpha", 1.0, highest=1.0)
        choice(settings, "optimizer", OPTIMIZERS)
        choice(settings, "gate", GATES)
        localisation = where_asked(settings)
        if alpha == 0:
            # There is no forget term, and nothing to be known for it.
            return [*localisation, *(_round(round, settings.rounds, False) for round in range(settings.rounds))]
        served: list[Phase] = [*localisation, _COUNT_FORGOTTEN, _COUNT_RETAINED]
        for round in range(settings.rounds):
            if tau in ASKED and round % every == 0:
                served.append(_ASK_TAU)
            served.append(_round(round, settings.rounds, True))
        return served


def tau_asked(settings: UnlearnSettings) -> str | float:
    """The option `tau`: a word or a number from 0. Raises SettingsError for anything else."""
    asked = settings.options.get("tau", TAU_KINDS[0])
    if isinstance(asked, str):
        if asked not in TAU_KINDS:
            raise SettingsError(f"tau = {asked!r}: expected a number or one of {', '.join(TAU_KINDS)}.")
        return asked
    return number(settings, "tau", 0.0)


def _say_forgotten(work: Work) -> Reply:
    arrays = {}
    if work.settings.options.get("tau") == "class":
        present = torch.bincount(work.forget.labels, minlength=work.classes) > 0
        arrays[CLASSES] = present.numpy().astype(np.float32)
    return Reply(arrays, {"num-examples": len(work.forget)})


def _keep_forgotten(state: State, replies: Sequence[ClientReply]) -> State:
    """Each target's number of samples, and the forgotten classes where they were told, in the state."""
    told = [reply.arrays[CLASSES] for reply in replies if CLASSES in reply.arrays]
    kinds = {_KINDS: np.max(told, axis=0)} if told else {}
    after = keep_counts(_FORGOTTEN)(state, replies)
    return replace(after, arrays={**after.arrays, **kinds})


def _send_for_tau(state: State) -> Down:
    kinds = {_KINDS: state.arrays[_KINDS]} if _KINDS in state.arrays else {}
    return Down(packed=state.packed(), arrays=kinds)


def _say_held_out_loss(work: Work) -> Reply:
    """The mean loss of the held-out samples. Raises ClientError where it would be made of fewer than 20."""
    unseen, of = work.held_out, ""
    if _KINDS in work.arrays:
        forgotten = torch.from_numpy(work.arrays[_KINDS] > 0)
        unseen, of = unseen.take(forgotten[unseen.labels].nonzero().squeeze(1)), " of the forgotten classes"
    if len(unseen) < MINIMUM_SAMPLES:
        raise ClientError(
            f"the client holds out fewer than {MINIMUM_SAMPLES} samples{of} and withholds their mean loss; the others' "
            "serve without it, and where there is none, ask for tau=log-k or a number."
        )
    loss = mean_loss(work.task, work.model, unseen)
    return Reply({CLASSES: np.full(work.classes, loss, np.float32)}, {"num-examples": len(unseen)})


def _mean_tau(state: State, replies: Sequence[ClientReply]) -> State:
    """The mean over all held-out samples that were asked about."""
    losses = [float(reply.arrays[CLASSES][0]) for reply in replies]
    tau = mean_number(losses, [reply.metrics["num-examples"] for reply in replies])
    return replace(state, arrays={**state.arrays, _TAU: np.array([tau])})


def _terms(state: State, round: int) -> Terms:
    """How the two terms are weighed in this round, from the counts."""
    forgotten, retained = totals(state, _FORGOTTEN, _RETAINED)
    first = number(state.settings, "alpha", first_alpha(int(forgotten), int(retained)), highest=1.0)
    return Terms(alpha_in(round, state.settings.rounds, first), forgotten, retained)


def _round(round: int, rounds: int, forgets: bool) -> Phase:
    """A joint round, 0 and up, with a forget term or without.

    It is called what fine-tuning's is, so that those who forget nothing draw the same batches.
    """
    train = partial(train_both, share=rate_in(round, rounds))
    if not forgets:
        return Phase("train.recover", "remaining", send_packed, train, average)

    def down(state: State) -> Down:
        terms = _terms(state, round)
        numbers = {_ALPHA: terms.alpha, _FORGOTTEN: terms.forgotten, _RETAINED: terms.retained}
        arrays = {name: np.array([value]) for name, value in numbers.items()}
        arrays[_HOLDERS] = np.array([float(len(state.arrays[_RETAINED]))])
        if _TAU in state.arrays:
            arrays[_TAU] = state.arrays[_TAU]
        return Down(packed=state.packed(), arrays=arrays)

    mean = AverageByTerms(terms=partial(_terms, round=round), forgotten=_FORGOTTEN, retained=_RETAINED)
    return Phase("train.recover", "all", down, train, mean)


def train_both(work: Work, share: float = 1.0) -> Reply:
    """One client's part of a round: both terms, or the one that it has samples for.

    Args:
        share: of AdamW's rate, in this round.
    """
    make_optimizer = _optimizer(work.settings, share)
    if _ALPHA not in work.arrays or not len(work.forget):
        return train_on_retained(work) if make_optimizer is None else _train_retained(work, make_optimizer)
    terms = Terms(*(float(work.arrays[name][0]) for name in (_ALPHA, _FORGOTTEN, _RETAINED)))
    recipe, tau = local_recipe(work.training, work.settings), _tau(work)
    alone = Gated(tau, by_sample=choice(work.settings, "gate", GATES) == "sample")
    portion = None if work.mask is None else work.portion
    seen = 0
    if len(work.retain):
        forget, retain = terms.coefficients(len(work.forget), len(work.retain))
        both = replace(alone, forget=forget, retain=retain)
        trained = train_paired(
            work.task, work.model, work.forget, work.retain, both, recipe, work.generator, portion, make_optimizer
        )
        seen = len(work.retain) * recipe.local_epochs
    else:
        # As many steps as those take who keep samples, on average.
        each = math.ceil(terms.retained / float(work.arrays[_HOLDERS][0]) / recipe.batch_size)
        own = math.ceil(len(work.forget) / recipe.batch_size)
        recipe = replace(recipe, local_epochs=max(1, forget_passes(each, own, recipe.local_epochs)))
        trained = train_gated(
            work.task, work.model, work.forget, alone, recipe, work.generator, portion, make_optimizer
        )
    return _told(work, trained, seen)


def _optimizer(settings: UnlearnSettings, share: float) -> MakeOptimizer | None:
    """What replaces the federation's own gradient descent; None: nothing."""
    if choice(settings, "optimizer", OPTIMIZERS) == "sgd":
        return None
    rate = share * (settings.learning_rate or ADAMW_RATE)
    # Where the forgotten samples are known by heart their gradients are tiny; AdamW's steps do not shrink with them.
    return lambda leaves: torch.optim.AdamW(leaves, lr=rate)


def _train_retained(work: Work, make_optimizer: MakeOptimizer) -> Reply:
    recipe = local_recipe(work.training, work.settings)
    portion = None if work.mask is None else work.portion
    trained = train_locally(
        work.task, work.model, work.retain, recipe, work.generator, portion, make_optimizer=make_optimizer
    )
    return work.updated(len(work.retain), loss=trained.mean_loss, epochs=recipe.local_epochs)


def _told(work: Work, trained: GatedResult, seen: int) -> Reply:
    held = len(work.forget) + len(work.retain)
    numbers = {"loss": trained.mean_loss, "epochs": (trained.forgotten_seen + seen) / held}
    if len(work.forget) >= MINIMUM_SAMPLES:
        # Of a single sample it would say on which side of tau its loss is.
        numbers["gate-open"] = trained.gate_open
    return work.updated(held, **numbers)


def _tau(work: Work) -> float:
    asked = tau_asked(work.settings)
    if isinstance(asked, float):
        return asked
    return loss_of_guessing(work.task, work.classes) if asked == "log-k" else float(work.arrays[_TAU][0])


_COUNT_FORGOTTEN = Phase("query.count", "target", lambda state: Down(), _say_forgotten, _keep_forgotten)
_COUNT_RETAINED = Phase("query.count", "remaining", lambda state: Down(), say_retained, keep_counts(_RETAINED))
_ASK_TAU = Phase(TAU_MESSAGE, "all", _send_for_tau, _say_held_out_loss, _mean_tau)

methods.register("nabla-tau", NablaTau())
