"""The two terms of nabla-tau: how they are weighed, over the rounds and over clients, and how many passes each gets."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

FACTOR = 5 / 3
"""Of the forgotten share: alpha in the first round (the authors' rule of thumb)."""


def gated(loss: Tensor, tau: float) -> Tensor:
    """The forget term, relu(tau - loss)^2: its gradient is -2 (tau - loss) below tau, and none from tau on.

    Args:
        loss: mean of a batch, or the losses of its samples, each with a gate of its own; in the task's own unit.
        tau: where the gate closes.
    """
    return functional.relu(tau - loss).square()


def first_alpha(forgotten: int, retained: int) -> float:
    """5/3 of the share of all training samples that is forgotten; at most 1, from where on there is no retain term."""
    return min(1.0, FACTOR * forgotten / (forgotten + retained))


def alpha_in(round: int, rounds: int, first: float) -> float:
    """Alpha falls linearly from `first` in round 0, so that it would be 0 in the round after the last."""
    return first * (1 - round / rounds)


def rate_in(round: int, rounds: int) -> float:
    """Share of AdamW's first rate in a round: from 1 it falls linearly, to a tenth in the round after the last."""
    return 1 - 0.9 * round / rounds


def forget_passes(retain_batches: int, forget_batches: int, retain_passes: float = 3.0) -> int:
    """Whole passes over the forget set in which each batch of it is paired with one of the retained samples.

    The authors' number of unlearning epochs is that of three passes over the retained samples.
    """
    return math.floor(retain_passes * retain_batches / forget_batches)


@dataclass(frozen=True)
class Terms:
    """alpha x (forget term) + (1 - alpha) x (retain term), over all clients.

    A client minimises its share of the sum, divided by its weight; the weighted mean of what clients did is then, for
    one step, the step of whoever holds all samples. Who forgets everything has the forget term alone, who forgets
    nothing the retain term alone.

    Attributes:
        alpha: weight of the forget term, 0 to 1.
        forgotten: samples to forget, over all clients.
        retained: retained samples, over all clients.
    """

    alpha: float
    forgotten: float
    retained: float

    def weight(self, forgotten: float, retained: float) -> float:
        """Of a client with so many samples; in samples, so that at alpha 0 it is the number of its retained ones."""
        return self._forget(forgotten) + (1 - self.alpha) * retained

    def coefficients(self, forgotten: float, retained: float) -> tuple[float, float]:
        """Of the forget and the retain term in what such a client minimises; they sum to 1."""
        whole = self.weight(forgotten, retained)
        return self._forget(forgotten) / whole, (1 - self.alpha) * retained / whole

    def _forget(self, forgotten: float) -> float:
        return self.alpha * forgotten * self.retained / self.forgotten
