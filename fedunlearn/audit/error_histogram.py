"""Histogram of root mean square errors in fixed bins: what a quantile needs, and nothing of a single sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from fedunlearn.errors import DataError

LOWEST, HIGHEST, EDGES = 1e-4, 10.0, 511
ERROR_EDGES: tuple[float, ...] = tuple(LOWEST * (HIGHEST / LOWEST) ** (index / (EDGES - 1)) for index in range(EDGES))
"""511 log-spaced edges from 1e-4 to 10: a bin is 2.3 % wide."""
BINS = EDGES + 1
"""510 bins between the edges, one below all of them, one from 10 upwards."""


def histogram(errors: Tensor) -> list[int]:
    """How many errors fall into each of the `BINS` bins: (edge i-1, edge i] for bin i; what is no number into the last.

    Args:
        errors: of each sample, 0 upwards, (N,).
    """
    finite = errors.detach().cpu().double().nan_to_num(nan=math.inf, posinf=math.inf)
    bins = torch.bucketize(finite, torch.tensor(ERROR_EDGES, dtype=torch.float64), right=False)
    return torch.bincount(bins, minlength=BINS).tolist()


def quantile(counts: Sequence[int], share: float) -> float:
    """The lowest edge that at least `share` of the errors do not exceed: the quantile, at most 2.3 % too high.

    Args:
        counts: a (pooled) histogram.
        share: above 0 to 1.

    Raises:
        DataError: there are no errors, or the quantile lies in the last bin, beyond every edge.
    """
    if not sum(counts):
        raise DataError("there is no error to take a quantile of; give one at least.")
    wanted, seen = share * sum(counts) * (1 - 1e-12), 0
    for edge, count in zip(ERROR_EDGES, counts, strict=False):
        seen += count
        if seen >= wanted:
            return edge
    raise DataError(f"the {share:.0%} quantile of the errors is above {HIGHEST:g}; the model's answers are not finite.")


def share_above(counts: Sequence[int], edge: float) -> float:
    """The share of a histogram's samples that are above `edge`, which is one of the edges: 0 to 1."""
    first = ERROR_EDGES.index(edge) + 1
    return sum(counts[first:]) / sum(counts)


def mean(counts: Sequence[int]) -> float:
    """The mean error, each sample standing in the geometric middle of its bin; good for comparing two histograms.

    What is below every edge counts as none: a model is not displaced from itself.
    """
    middles = [0.0, *(math.sqrt(a * b) for a, b in pairwise(ERROR_EDGES)), HIGHEST]
    return sum(count * middle for count, middle in zip(counts, middles, strict=True)) / sum(counts)
