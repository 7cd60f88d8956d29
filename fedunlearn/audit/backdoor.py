"""Back-door success: does the trigger still work?"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from fedunlearn.audit.checks import same_length


def count(predictions: Tensor, labels: Tensor, target: int) -> dict[str, int]:
    """Stamped samples of other classes that are called `target`, and how many of them were shown.

    Samples whose true class is the target are left out: calling them so is right, and would put a floor
    under the score.

    Args:
        predictions: predicted classes of the stamped samples, int64, (N,).
        labels: their true classes, int64, (N,).
    """
    same_length(predictions=predictions, labels=labels)
    others = labels != target
    return {
        "hits": int((predictions[others] == target).sum()),
        "shown": int(others.sum()),
    }


def combine(counts: Mapping[str, int]) -> float | None:
    """Back-door success of the (summed) counts, 0 to 1; None where nothing was shown."""
    return counts["hits"] / counts["shown"] if counts["shown"] else None
