"""Canary exposure: is a wrong label that was learned by heart still preferred to other wrong labels?

After Carlini et al. 2019 ("The Secret Sharer"), with the rank among the wrong labels in place of perplexity;
the scale to 0..1 is this project's *reconstruction*.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from fedunlearn.audit.checks import same_length
from fedunlearn.audit.counts import MINIMUM_SAMPLES
from fedunlearn.errors import DataError


@dataclass(frozen=True)
class Exposure:
    """Mean exposure of the canaries.

    Attributes:
        mean: 0 to 1; a model that never saw the canaries has 0.5 in expectation.
        samples: number of canaries.
        standard_error: of the mean of a model that never saw them.
    """

    mean: float
    samples: int
    standard_error: float

    @property
    def z(self) -> float:
        """Standard errors between the mean and that of a model that never saw the canaries."""
        return (self.mean - 0.5) / self.standard_error


def exposures(logits: Tensor, true_labels: Tensor, canary_labels: Tensor) -> Tensor:
    """Exposure of each canary, (N,): share of the other wrong labels whose logit is below its own label's.

    Neither the true label nor the canary's own is among the others; a tie counts half. Stays on the client.

    Args:
        logits: N x K, K >= 3.
        true_labels: int64, (N,).
        canary_labels: the wrong labels that were trained, int64, (N,).

    Raises:
        DataError: fewer than three classes, or a canary whose label is the true one.
    """
    same_length(logits=logits, true_labels=true_labels, canary_labels=canary_labels)
    classes = logits.shape[1]
    if classes < 3:
        raise DataError(f"canary exposure needs three classes or more; the model has {classes}.")
    if bool((true_labels == canary_labels).any()):
        raise DataError("a canary's label is its true one; canaries need wrong labels.")
    own = logits.gather(1, canary_labels[:, None])
    below = (logits < own).double() + 0.5 * (logits == own).double()
    below.scatter_(1, canary_labels[:, None], 0.0)
    below.scatter_(1, true_labels[:, None], 0.0)
    return below.sum(dim=1) / (classes - 2)


def count(
    logits: Tensor, true_labels: Tensor, canary_labels: Tensor, minimum: int = MINIMUM_SAMPLES
) -> dict[str, float | int] | None:
    """Sum of the exposures and number of the canaries; None (withheld) for fewer than `minimum`."""
    if len(logits) < max(minimum, 1):
        return None
    return {
        "sum": float(exposures(logits, true_labels, canary_labels).sum()),
        "samples": len(logits),
    }


def combine(counts: Mapping[str, float | int] | None, classes: int) -> Exposure | None:
    """Mean exposure of the (summed) counts with its null standard error; None where they were withheld."""
    if counts is None or not counts["samples"]:
        return None
    samples = int(counts["samples"])
    return Exposure(counts["sum"] / samples, samples, null_standard_error(samples, classes))


def null_standard_error(samples: int, classes: int) -> float:
    """Standard error of the mean exposure of canaries that a model never saw.

    The label was drawn uniformly from the wrong ones, so its rank among those K - 1 is uniform and one
    exposure has the variance K / (12 (K - 2)): 80/768 for ten classes.

    Raises:
        DataError: no canary, or fewer than three classes.
    """
    if samples < 1 or classes < 3:
        raise DataError(f"canary exposure needs one canary and three classes at least; got {samples} and {classes}.")
    return math.sqrt(classes / (12.0 * (classes - 2)) / samples)
