"""SCRUB: leave the original model's answers on the forget set, stay with them on the retained data; and its rewind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.aggregation import average
from fedunlearn.strategies.centralised.rewinding import GO_BACK, REWIND_MESSAGE, keep_checkpoint
from fedunlearn.strategies.method import EVERY_SCOPE, Need, Phase, Reply, Scope, Work, methods
from fedunlearn.strategies.option import number, positive, switch, whole
from fedunlearn.strategies.passes import (
    FORGET_OPTIONS,
    answers,
    check_forget_options,
    divergence,
    forget_recipe,
    losses_and_logits,
    train_by_position,
    train_forgetting,
)
from fedunlearn.strategies.recovery import local_recipe, send_packed
from fedunlearn.tasks.base import with_classes

ALPHA, GAMMA, TEMPERATURE = 0.5, 1.0, 4.0
FORGET_RATE = 0.1
"""The max-step has no bound: at the rounds' own rate one pass can be enough to ruin the model."""


@dataclass(frozen=True)
class Scrub:
    """Rounds of a max-step at the target, then a min-step at whoever holds retained data.

    Max-step: maximise the divergence KL_T(original || student) on the forget set, in the first `max_rounds` rounds.
    Min-step, in every round: minimise gamma x cross-entropy + alpha x KL_T(original || student) on the retained data.

    Options: `alpha` (0.5), `gamma` (1), `temperature` T (4), `max_rounds` (default: all but the last round),
    `forget_rate` (0.1: the max-step's rate as a multiple of the min-step's; our choice), `forget_epochs` (see
    `forget_recipe`), and `rewind` (SCRUB+R; default false): after the last round the server goes back to the round
    whose error on the forget set is closest to the last model's error on unseen samples of the same classes, which
    the target measures.
    """

    name: str = "scrub"
    source: str = (
        "Kurmanji et al. 2023, arXiv 2302.09880; reconstruction: a step of each kind is a pass at those who hold its "
        "data, and the rewind's reference is the target's held-out data"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target", "class-scores"})
    earnest: bool = False
    options: frozenset[str] = frozenset({"alpha", "gamma", "temperature", "max_rounds", "rewind"}) | FORGET_OPTIONS

    messages: frozenset[str] = frozenset({REWIND_MESSAGE})

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """`settings.rounds` rounds, each with a max-step before it while there are any, and the rewind's queries."""
        number(settings, "alpha", ALPHA)
        number(settings, "gamma", GAMMA)
        positive(settings, "temperature", TEMPERATURE)
        check_forget_options(settings)
        most = whole(settings, "max_rounds", max(1, settings.rounds - 1), lowest=1, highest=settings.rounds)
        rewind = switch(settings, "rewind", False)
        phases: list[Phase] = []
        for round in range(settings.rounds):
            phases += [_MAXIMISE] if round < most else []
            phases += [_MINIMISE, *([keep_checkpoint(round)] if rewind else [])]
        return [*phases, *([GO_BACK] if rewind else [])]


def _maximise(work: Work) -> Reply:
    wanted = answers(work, work.base, work.forget)
    temperature = positive(work.settings, "temperature", TEMPERATURE)

    def loss(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        return -divergence(wanted[positions], with_classes(work.task).predict(model, inputs), temperature)

    return train_forgetting(work, work.forget, loss, forget_recipe(work, FORGET_RATE))


def _minimise(work: Work) -> Reply:
    settings, labels = work.settings, work.retain.labels
    alpha, gamma = number(settings, "alpha", ALPHA), number(settings, "gamma", GAMMA)
    temperature = positive(settings, "temperature", TEMPERATURE)
    wanted = answers(work, work.base, work.retain)

    def loss(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        losses, logits = losses_and_logits(work.task, model, inputs, labels[positions])
        return gamma * losses + alpha * divergence(wanted[positions], logits, temperature)

    return train_by_position(work, work.retain, loss, local_recipe(work.training, settings))


_MAXIMISE = Phase("train.forget", "target", send_packed, _maximise, average)
_MINIMISE = Phase("train.recover", "remaining", send_packed, _minimise, average)

methods.register("scrub", Scrub())
