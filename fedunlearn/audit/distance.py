"""Distance to the retrained model: pure arithmetic on reported metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Distance:
    """How far one model is from the retrained one.

    Attributes:
        gaps: metric -> this model's value less the retrained model's; None where one of them is unknown.
        mean_absolute: mean of the known gaps' sizes; None where none is known.
    """

    gaps: Mapping[str, float | None]
    mean_absolute: float | None


def distance(
    values: Mapping[str, float | None], retrained: Mapping[str, float | None], names: Sequence[str]
) -> Distance:
    """Signed gap in each of the metrics `names` and the mean of their sizes.

    Average only metrics of one scale (shares from 0 to 1): a log-loss, without an upper end, would rule it.
    """
    gaps = {name: gap(values.get(name), retrained.get(name)) for name in names}
    sizes = [abs(value) for value in gaps.values() if value is not None]
    return Distance(gaps, sum(sizes) / len(sizes) if sizes else None)


def gap(value: float | None, reference: float | None) -> float | None:
    """`value` less `reference`; None where either is None or not a finite number."""
    if value is None or reference is None or not math.isfinite(value) or not math.isfinite(reference):
        return None
    return value - reference


def share_of_the_way(
    original: float | None, value: float | None, retrained: float | None, least: float = 1e-9
) -> float | None:
    """Where `value` lies between the original (0) and the retrained model (1), or outside of both.

    None where one is unknown, or original and retrained differ by `least` or less: nothing is shown then.
    """
    whole, done = gap(retrained, original), gap(value, original)
    if whole is None or done is None or abs(whole) <= least:
        return None
    return done / whole
