"""NegGrad+: descend on the retained data and ascend on the forget set, weighed against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.by_role import KeepMean, add_kept
from fedunlearn.strategies.method import EVERY_SCOPE, Need, Phase, Reply, Scope, Work, methods
from fedunlearn.strategies.option import number
from fedunlearn.strategies.passes import (
    FORGET_OPTIONS,
    check_forget_options,
    forget_recipe,
    train_by_position,
    train_forgetting,
)
from fedunlearn.strategies.recovery import local_recipe, send_packed

ALPHA = 0.98


@dataclass(frozen=True)
class NegGradPlus:
    """Minimise alpha x (loss of the retained data) - (1 - alpha) x (loss of the forget set).

    Both roles start a round from the same model: the target takes the second term, whoever holds retained data the
    first, and the server adds the two changes. With one step of one batch each that is the centralised step.

    Options: `alpha` (0 to 1; the default of 0.98 is ours: at 0.95 three rounds can ruin a small model), `forget_rate`
    and `forget_epochs` (see `forget_recipe`). The ascent has no bound, as in the paper.
    """

    name: str = "neggrad-plus"
    source: str = (
        "Kurmanji et al. 2023, arXiv 2302.09880 (as the baseline NegGrad+); reconstruction: one machine's two terms "
        "are given to the two roles, whose changes are added"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target"})
    earnest: bool = False
    options: frozenset[str] = frozenset({"alpha"}) | FORGET_OPTIONS

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """`settings.rounds` rounds; in each the target's change is kept apart until the others' is there."""
        number(settings, "alpha", ALPHA, highest=1.0)
        check_forget_options(settings)
        ascend = Phase("train.forget", "target", send_packed, _ascend, KeepMean(name="ascent"))
        descend = Phase("train.recover", "remaining", send_packed, _descend, add_kept("ascent"))
        return [ascend, descend] * settings.rounds


def _ascend(work: Work) -> Reply:
    """The target's term."""
    labels, alpha = work.forget.labels, number(work.settings, "alpha", ALPHA, highest=1.0)

    def term(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        return (alpha - 1) * work.task.loss(model, inputs, labels[positions])

    return train_forgetting(work, work.forget, term, forget_recipe(work))


def _descend(work: Work) -> Reply:
    """The retained data's term."""
    labels, alpha = work.retain.labels, number(work.settings, "alpha", ALPHA, highest=1.0)

    def term(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        return alpha * work.task.loss(model, inputs, labels[positions])

    return train_by_position(work, work.retain, term, local_recipe(work.training, work.settings))


methods.register("neggrad-plus", NegGradPlus())
