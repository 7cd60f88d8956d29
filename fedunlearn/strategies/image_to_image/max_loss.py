"""Max loss: descend on what remains, ascend on the forget set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.image_to_image.joint import FORGET_OPTIONS, train_forget_term, two_terms
from fedunlearn.strategies.method import EVERY_SCOPE, Need, Phase, Reply, Scope, Work, methods


@dataclass(frozen=True)
class MaxLoss:
    """Minimise (loss of the retained data) - weight x (loss of the forget set); it has no bound.

    Options: `weight` (0.25) and `forget_epochs` (the local epochs), how many passes the target makes.
    """

    name: str = "max-loss"
    source: str = (
        "Li et al. 2024, arXiv 2402.00351 (as a baseline); reconstruction: the two terms are given to the two roles, "
        "whose changes are added, and the weight"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target"})
    options: frozenset[str] = FORGET_OPTIONS
    earnest: bool = False

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """`settings.rounds` rounds of both terms."""
        return two_terms(settings, _ascend)


def _ascend(work: Work) -> Reply:
    labels = work.forget.labels

    def term(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        return -work.task.loss(model, inputs, labels[positions])

    return train_forget_term(work, term)


methods.register("max-loss", MaxLoss())
