"""Mean loss of a group of samples, from a sum and a count."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from fedunlearn.audit.counts import MINIMUM_SAMPLES


def count(losses: Tensor, minimum: int = MINIMUM_SAMPLES) -> dict[str, float | int] | None:
    """Sum and number of the losses; None (withheld) for fewer than `minimum` samples.

    Args:
        losses: loss of each sample, (N,).
    """
    if len(losses) < minimum:
        return None
    return {"sum": float(losses.detach().double().sum()), "samples": len(losses)}


def combine(counts: Mapping[str, float | int] | None) -> float | None:
    """Mean loss of the (summed) counts; None where they were withheld or empty."""
    if counts is None or not counts["samples"]:
        return None
    return counts["sum"] / counts["samples"]
