"""Random splits that keep the shares of the classes."""

from __future__ import annotations

import numpy as np


def stratified_positions(labels: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Sorted positions of a random `share` (0 to 1) of the samples, taken alike from every class.

    The total is `share` of all samples, rounded; each class gives its share, rounded down, and the classes
    with the largest remainders give one more (ties: the lower label).
    """
    values, counts = np.unique(labels, return_counts=True)
    exact = counts * share
    quotas = np.floor(exact + 1e-9).astype(np.int64)
    missing = round(len(labels) * share) - int(quotas.sum())
    for place in np.argsort(-(exact - quotas), kind="stable")[: max(0, missing)]:
        quotas[place] += 1
    chosen = [
        generator.permutation(np.flatnonzero(labels == value))[:quota]
        for value, quota in zip(values, quotas, strict=True)
    ]
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, dtype=np.int64)


def complement(positions: np.ndarray, count: int) -> np.ndarray:
    """Sorted positions from 0 to `count` - 1 that are not in `positions`."""
    left = np.ones(count, dtype=bool)
    left[positions] = False
    return np.flatnonzero(left)
