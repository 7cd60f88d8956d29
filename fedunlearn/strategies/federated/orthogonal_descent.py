"""FedOSD: forgetting descends where no remaining client's gradient points, and recovery does not go back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fedunlearn.channels.packing import unpack
from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.aggregation import average, weight_of
from fedunlearn.strategies.federated.weight_vectors import flatten, weight_names, with_weights
from fedunlearn.strategies.method import EVERY_SCOPE, ClientReply, Need, Phase, Reply, Scope, State, Work, methods
from fedunlearn.strategies.option import number, positive
from fedunlearn.strategies.recovery import local_recipe, send_packed, train_on_retained
from fedunlearn.tasks.base import with_classes
from fedunlearn.tasks.training import train_locally

SHARE, STEP = 1 / 3, 0.5
"""Share of the rounds that unlearn, the others recover; and by how much of the local passes' length they move."""
CUT_OFF = 1e-9
"""Singular values below this share of the highest count as zero. What they leave of any gradient is far below 1e-5."""
NOTHING_LEFT = 1e-6
"""A gradient of which less than this share is orthogonal to the others' is all theirs: the rest is rounding."""
TARGET = "forget:"


@dataclass(frozen=True)
class OrthogonalDescent:
    """Rounds of unlearning, then rounds of recovery; what a client trained in a round stands for its gradient.

    Options: `share` of the rounds that unlearn (1/3; at least one does, and of several at least one recovers), `step`
    by which the forgetting direction is multiplied (0.5: what a client trains in a round is far longer than the single
    gradients of the paper, and at full length two rounds of unlearning leave nothing to recover).
    """

    name: str = "fedosd"
    source: str = (
        "Pan et al. 2025, FedOSD (AAAI, arXiv 2412.20200); reconstruction: local passes in the place of single "
        "gradients, the share of the rounds and their length, no step where a direction vanishes"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target", "individual-updates", "class-scores"})
    options: frozenset[str] = frozenset({"share", "step"})

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """In a round of unlearning the target answers first, and the remaining clients' answers make the step."""
        share, step = number(settings, "share", SHARE, highest=1.0), positive(settings, "step", STEP)

        def descend(state: State, replies: Sequence[ClientReply]) -> State:
            return _descend(state, replies, step)

        unlearning = unlearning_rounds(settings.rounds, share)
        forget = Phase("train.forget", "target", send_packed, _descend_locally, _keep_gradient)
        around = Phase("train.recover", "remaining", send_packed, train_on_retained, descend)
        recover = Phase("train.recover", "remaining", send_packed, train_on_retained, _recover)
        return [*[forget, around] * unlearning, *[recover] * (settings.rounds - unlearning)]


def unlearning_rounds(rounds: int, share: float) -> int:
    """How many of the rounds unlearn: one at least, and not all of several."""
    return min(max(1, round(share * rounds)), max(1, rounds - 1))


def unlearning_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log(1 - p/2) of each sample, with p the probability of its recorded label: 0 to log 2, and descended."""
    probability = logits.softmax(dim=1).gather(1, labels[:, None]).squeeze(1)
    return -torch.log1p(-probability / 2)


def orthogonal_direction(gradient: Tensor, others: Tensor) -> Tensor:
    """The part of `gradient` (P,) that is orthogonal to every row of `others` (K x P), as long as `gradient` is.

    This is d = g - A' (A A')^+ A g; the pseudo-inverse is taken by singular values with a relative cut-off, of rows of
    length 1, which changes nothing of what they span. All zeros where nothing of the gradient is left.
    """
    gradient, others = gradient.to(torch.float64), others.to(torch.float64)
    lengths = others.norm(dim=1)
    rows = others[lengths > 0] / lengths[lengths > 0, None]
    direction = gradient
    if len(rows):
        _, values, basis = torch.linalg.svd(rows, full_matrices=False)
        basis = basis[values > CUT_OFF * values[0]]
        for _ in range(2):  # a second time takes out what the first left by rounding
            direction = direction - basis.T @ (basis @ direction)
    length, wanted = direction.norm(), gradient.norm()
    if length <= NOTHING_LEFT * wanted:
        return torch.zeros_like(gradient)
    return direction * (wanted / length)


def _descend_locally(work: Work) -> Reply:
    """The target's model after descending the unlearning loss on its forget set."""

    def loss(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        return unlearning_cross_entropy(with_classes(work.task).predict(model, inputs), labels)

    recipe = local_recipe(work.training, work.settings)
    result = train_locally(work.task, work.model, work.forget, recipe, work.generator, loss=loss)
    return work.updated(len(work.forget), loss=result.mean_loss, epochs=recipe.local_epochs)


def _keep_gradient(state: State, replies: Sequence[ClientReply]) -> State:
    """The model stays; what the targets would change is kept until the others have answered."""
    names = weight_names(state.model, state.layout)
    changed = average(state, replies).model
    kept = {f"{TARGET}{name}": (state.model[name] - changed[name]).numpy() for name in names}
    return replace(state, arrays=kept)


def _descend(state: State, replies: Sequence[ClientReply], step: float) -> State:
    names = weight_names(state.model, state.layout)
    if not all(f"{TARGET}{name}" in state.arrays for name in names):
        return state  # it answered before, and is away now
    before = flatten(state.model, names)
    gradient = flatten({name: torch.from_numpy(state.arrays[f"{TARGET}{name}"]) for name in names}, names)
    gradients = torch.stack([before - _sent(state, reply, names) for reply in replies])
    after = before - step * orthogonal_direction(gradient, gradients)
    return replace(state, model=with_weights(state.model, names, after), arrays={})


def _recover(state: State, replies: Sequence[ClientReply]) -> State:
    """FedAvg of updates that lost what points along the way back to the model that the request found."""
    names = weight_names(state.model, state.layout)
    before = flatten(state.model, names)
    away = (before - flatten(state.base, names))[None]
    weights = [weight_of(reply.metrics, f"client {reply.client}") for reply in replies]
    step = torch.zeros_like(before)
    for reply, weight in zip(replies, weights, strict=True):
        step += weight / sum(weights) * orthogonal_direction(before - _sent(state, reply, names), away)
    # Running statistics are no direction: they are averaged as ever.
    averaged = average(state, replies)
    return replace(averaged, model=with_weights(averaged.model, names, before - step))


def _sent(state: State, reply: ClientReply, names: Sequence[str]) -> Tensor:
    return flatten(unpack(state.model, reply.arrays, state.portion), names)


methods.register("fedosd", OrthogonalDescent())
