"""Mean and spread over seeds, and how they read."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from fedunlearn.reports.measures import shown


@dataclass(frozen=True)
class Spread:
    """One figure over the seeds that have it.

    Attributes:
        mean: arithmetic mean.
        deviation: standard deviation of the sample (divisor n - 1); None for a single seed.
        least: smallest value. most: largest value. count: seeds that have the figure, 1 or more.
    """

    mean: float
    deviation: float | None
    least: float
    most: float
    count: int

    def as_dict(self) -> dict[str, float | int | None]:
        """The attributes, for JSON."""
        return asdict(self)


def spread(values: Iterable[float | None]) -> Spread | None:
    """Mean and spread of the finite values; None where there is none."""
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    deviation = statistics.stdev(known) if len(known) > 1 else None
    return Spread(statistics.fmean(known), deviation, min(known), max(known), len(known))


def shown_spread(spread: Spread | None, kind: str, seeds: int | None = None) -> str:
    """ "94.1% ± 0.3" for people; an en dash where there is nothing; how many seeds where some lack it.

    Args:
        kind: as in `Measure`; shares are shown in percent and their deviation in percentage points.
        seeds: how many there could be; None: not told.
    """
    if spread is None:
        return "–"
    text = shown(spread.mean, kind)
    # What something costs is often the same for every seed; that needs no "± 0".
    if spread.deviation is not None and (spread.deviation or kind not in ("count", "bytes", "operations", "seconds")):
        text += f" ± {_deviation(spread, kind)}"
    if seeds is not None and spread.count < seeds:
        text += f" ({spread.count} of {seeds} seeds)"
    return text


def _deviation(spread: Spread, kind: str) -> str:
    deviation = spread.deviation or 0.0
    if kind == "share":
        return f"{100 * deviation:.1f}"
    if kind == "count":
        return f"{deviation:.1f}"
    return shown(deviation, kind)
