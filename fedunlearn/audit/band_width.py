"""How far n retrained models reach: the widths of the verdict's intervals, and how many models would be enough."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy.special import stdtrit

MINIMUM_MODELS = 8
"""Fewer retrained models never yield pass."""
FALSE_FAIL = 0.01
"""Chance that one more retrained model fails, all metrics together."""
CONFIDENCE = 0.95
MOST_MODELS = 10_000
"""Where more than this many would be needed, none are named."""
MOST_SAMPLES = 10_000_000


def quantile(probability: float, freedom: int) -> float:
    """Student's t with `freedom` (>= 1) degrees of freedom: below it lies `probability`, 0 to 1."""
    return float(stdtrit(freedom, probability))


def factor(models: int, metrics: int) -> float:
    """K: deviations from the mean of n retrained models within which one more lies.

    Args:
        models: n, 2 or more.
        metrics: m, over which the error of 0.01 is shared (Bonferroni).
    """
    return quantile(1.0 - FALSE_FAIL / (2 * metrics), models - 1) * math.sqrt(1.0 + 1.0 / models)


def uncertainty(models: int) -> float:
    """t(0.95, n-1) / sqrt(n): deviations by which the mean of n (>= 2) models may be off to one side."""
    return quantile(CONFIDENCE, models - 1) / math.sqrt(models)


def fewest_models(decides: Callable[[int], bool], models: int) -> int | None:
    """The smallest number of models, more than there are and 8 at least, that decides; None for none to 10 000.

    Args:
        decides: says it of a number of models; once true it stays true for more.
    """
    low = max(models + 1, MINIMUM_MODELS)
    if decides(low):
        return low
    high = MOST_MODELS
    if not decides(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high


def fewest_samples(decides: Callable[[int, float], bool], models: int, samples: int | None) -> int | None:
    """The smallest number of samples of a rate that decides with as many models; None where none does to 10 million.

    The models' deviation is taken to shrink with the root of the number of samples, as it does where counting is what
    makes models differ (canaries); where training does, the number is too small.

    Args:
        decides: says it of a number of models and of how many times their deviation is smaller.
        samples: of the rate, now; None for a loss, whose number of samples says nothing.
    """
    if samples is None or models < MINIMUM_MODELS:
        return None
    low, high = samples, MOST_SAMPLES
    if not decides(models, math.sqrt(high / samples)):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(models, math.sqrt(middle / samples)) else (middle, high)
    return high
