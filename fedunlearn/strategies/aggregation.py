"""The weighted mean of the clients' replies, the same on every engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fedunlearn.errors import ClientError
from fedunlearn.strategies.method import ClientReply, State


def weighted_mean(arrays: Sequence[Mapping[str, np.ndarray]], weights: Sequence[float]) -> dict[str, np.ndarray]:
    """Mean of equally named arrays, accumulated in the given order in 64 bits, so that it is reproducible.

    Integer arrays (counters of normalisation layers) are copied from the first entry, never averaged.
    Raises ClientError when the weights do not sum to a positive number.
    """
    total = float(sum(weights))
    if not total > 0:
        raise ClientError(f"the {len(arrays)} replies stand for no sample; expected at least one sample.")
    mean: dict[str, np.ndarray] = {}
    for name, first in arrays[0].items():
        if not np.issubdtype(first.dtype, np.floating):
            mean[name] = first.copy()
            continue
        summed = np.zeros(first.shape, dtype=np.float64)
        for entry, weight in zip(arrays, weights, strict=True):
            summed += entry[name].astype(np.float64) * (weight / total)
        mean[name] = summed.astype(first.dtype)
    return mean


def average(state: State, replies: Sequence[ClientReply]) -> State:
    """FedAvg of the moving part of the model, weighted by each client's number of samples."""
    weights = [reply.metrics["num-examples"] for reply in replies]
    return state.with_packed(weighted_mean([reply.arrays for reply in replies], weights))
