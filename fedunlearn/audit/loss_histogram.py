"""Histogram of per-sample losses in fixed bins: what a membership attack needs, nothing about one sample."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fedunlearn.audit.counts import MINIMUM_SAMPLES

LOWEST, HIGHEST, EDGES = 1e-6, 30.0, 119


def _log_spaced(low: float, high: float, number: int) -> tuple[float, ...]:
    step = math.log(high / low) / (number - 1)
    inner = [low * math.exp(step * index) for index in range(1, number - 1)]
    return (low, *inner, high)


LOSS_EDGES: tuple[float, ...] = _log_spaced(LOWEST, HIGHEST, EDGES)
"""119 log-spaced edges from 1e-6 to 30: a bin is a factor of 1.16 wide."""

BINS = len(LOSS_EDGES) + 1
"""118 bins between the edges, one below all of them, one from 30 upwards."""


def histogram(losses: Tensor, minimum: int = MINIMUM_SAMPLES) -> list[int] | None:
    """How many losses fall into each of the `BINS` bins; None (withheld) for fewer than `minimum` samples.

    Bin 0 is below 1e-6, bin i is [edge i-1, edge i), the last is 30 and more; a loss that is not a number
    counts as the worst.

    Args:
        losses: loss of each sample, (N,).
    """
    if len(losses) < minimum:
        return None
    finite = losses.detach().cpu().double().nan_to_num(nan=math.inf, posinf=math.inf)
    bins = torch.bucketize(finite, torch.tensor(LOSS_EDGES, dtype=torch.float64), right=True)
    return torch.bincount(bins, minlength=BINS).tolist()


def histogram_by_class(losses: Tensor, labels: Tensor, classes: int) -> list[list[int]]:
    """One histogram a class, K x BINS, never withheld: for the server's test set, not for a client's data."""
    return [histogram(losses[labels == index], minimum=0) or [0] * BINS for index in range(classes)]
