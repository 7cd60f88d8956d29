"""How far completed images are from the true ones: mean error and PSNR of a group of samples, from sums."""

from __future__ import annotations

import math

from torch import Tensor

from fedunlearn.audit.counts import MINIMUM_SAMPLES

LEAST = 1e-10
"""A smaller mean square counts as this one, which is 100 dB."""


def count(errors: Tensor, minimum: int = MINIMUM_SAMPLES) -> dict[str, float | int] | None:
    """Sum of the errors, sum of their squares, and number of samples; None (withheld) for fewer than `minimum`.

    Args:
        errors: root mean square of each image over what is judged, (N,), 0 to 1.
    """
    if len(errors) < minimum:
        return None
    known = errors.detach().double()
    return {"sum": float(known.sum()), "squares": float(known.square().sum()), "samples": len(errors)}


def peak_signal_to_noise(mean_square: float) -> float:
    """PSNR in decibels of values from 0 to 1: -10 log10 of the mean squared error, at most 100."""
    return -10.0 * math.log10(max(mean_square, LEAST))
