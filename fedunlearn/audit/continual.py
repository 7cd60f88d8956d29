"""Accuracies of a sequence of requests, each of which names classes: what remains, what is gone, and what came back.

As GS-LoRA's authors define them (arXiv 2403.11530, 2501.09705), over plain arg-max answers.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from fedunlearn.audit.accuracy import Accuracy
from fedunlearn.errors import DataError


@dataclass(frozen=True)
class Standing:
    """Mean test accuracies over classes, 0 to 1, after one request of a sequence; None over no class.

    Attributes:
        remaining: Acc_r, of classes that nobody asked to forget.
        forgotten: Acc_f, of the classes that this request names.
        old: Acc_o, of the classes of all requests before it.
        missing: Acc_m, of the remaining classes of which no sample was there to train on.
        h: harmonic mean of Acc_r and of the fall of Acc_f since the original model.
    """

    remaining: float
    forgotten: float
    old: float | None
    missing: float | None
    h: float


def standing(
    now: Accuracy,
    original: Accuracy,
    forgotten: Collection[int],
    old: Collection[int] = (),
    missing: Collection[int] = (),
) -> Standing:
    """Where a model stands after the request that names the classes `forgotten`.

    Args:
        now: of the model. original: of the model before the first request of all.
        old: classes of the requests before. missing: remaining classes without training samples.

    Raises:
        DataError: no class remains or is forgotten, or there is no test sample of either.
    """
    gone = {*forgotten, *old}
    remaining = now.over([label for label in range(len(now.by_class)) if label not in gone])
    before, after = original.over(sorted(forgotten)), now.over(sorted(forgotten))
    if remaining is None or before is None or after is None:
        raise DataError(
            "a request's standing needs test samples of forgotten and of remaining classes; there are none."
        )
    return Standing(
        remaining, after, now.over(sorted(old)), now.over(sorted(missing)), harmonic_mean(remaining, before, after)
    )


def harmonic_mean(remaining: float, before: float, after: float) -> float:
    """H: the harmonic mean of Acc_r and of the fall of Acc_f; 0 where either is 0 or less.

    Args:
        remaining: Acc_r. before: Acc_f of the original model. after: Acc_f now. All in the same unit.
    """
    fall = before - after
    return 2 * remaining * fall / (remaining + fall) if remaining > 0 and fall > 0 else 0.0
