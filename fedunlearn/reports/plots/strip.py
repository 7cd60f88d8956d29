"""Where everything of one judged metric stands on its strip: plain arithmetic, no drawing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from fedunlearn.audit.band_width import uncertainty
from fedunlearn.audit.measured import Measured
from fedunlearn.audit.verdict import UTILITY_MARGIN
from fedunlearn.reports.metric_words import Entry

Span = tuple[float, float]

_REACH = 0.5
"""A band is followed beyond the values by this share of their span; a wider one goes on outside."""
_ROUND_SHARES = (0.5, 0.1, 0.9, 0.01, 0.99, 0.001, 0.999, 0.2, 0.8, 0.05, 0.95, 0.02, 0.98, 0.005, 0.995, 0.3, 0.7)
_ROUND_LOSSES = tuple(digit * 10.0**power for digit in (1, 5, 2, 3) for power in range(-6, 4))
_TICKS_APART = 0.085


@dataclass(frozen=True)
class Strip:
    """One metric on the scale on which the verdict compares; a utility's margin, stated in accuracy, is taken there.

    A metric passes where `bar` lies within `goal`, and fails where `unlearned` lies outside of `band`.

    Attributes:
        original, unlearned, retrained: values on the scale.
        mean: of the retrained models, or chance; None without any.
        band: where one more retrained model lies; None for fewer than two.
        goal: the margin about the mean; None where there is none, or the metric cannot tell.
        bar: the unlearned model with what is uncertain about the mean.
        forward, back: from a rate or loss to the scale, and back.
    """

    original: float
    unlearned: float
    retrained: tuple[float, ...]
    mean: float | None
    band: Span | None
    goal: Span | None
    bar: Span | None
    forward: Callable[[float], float]
    back: Callable[[float], float]

    @property
    def view(self) -> Span:
        """What the strip shows: all values and margins, and as much of the band as leaves them readable."""
        values = [self.original, self.unlearned, *self.retrained]
        values += [end for end in self.goal or () if math.isfinite(end)]
        low, high = min(values), max(values)
        if high - low < 1e-9:
            low, high = low - 0.05 * (abs(low) or 1.0), high + 0.05 * (abs(high) or 1.0)
        reach = _REACH * (high - low)
        around = [end for span in (self.band, self.bar) if span is not None for end in span]
        first = min([low, *(max(end, low - reach) for end in around)])
        last = max([high, *(min(end, high + reach) for end in around)])
        space = 0.04 * (last - first)
        return first - space, last + space

    def ticks(self) -> list[tuple[float, float]]:
        """Places on the strip and the rates or losses that are round there, far enough apart to be read."""
        low, high = self.view
        first, last = self.back(low), self.back(high)
        rounds = list(_ROUND_SHARES if last <= 1.0 and first >= 0.0 else _ROUND_LOSSES)
        evenly = sorted(MaxNLocator(5).tick_values(first, last), key=lambda value: abs(value - (first + last) / 2))
        taken: list[tuple[float, float]] = []
        edge = 0.02 * (high - low)  # a label further out would be cut off
        inside = [value for value in rounds if first <= value <= last]
        for value in [*(inside if len(inside) >= 3 else ()), *evenly]:
            if not first <= value <= last:
                continue
            place = self.forward(float(value))
            if low + edge <= place <= high - edge and all(
                abs(place - other) > _TICKS_APART * (high - low) for other, _ in taken
            ):
                taken.append((place, float(value)))
        return sorted(taken)


def strip_of(entry: Entry) -> Strip:
    """The strip of a primary metric, or of canaries that are judged alone.

    Raises:
        DataError: the entry is damaged.
    """
    if entry.get("alone"):
        return _of_canaries(entry)
    measured = Measured.of(entry)
    forward, back = measured.forward, measured.back
    values = tuple(forward(value) for value in measured.retrained)
    mean = math.fsum(values) / len(values) if values else None
    band = goal = bar = None
    unlearned, limit, margin = forward(measured.unlearned), entry.get("limit"), entry.get("margin")
    if mean is not None and limit is not None and margin is not None:
        band = (mean - limit, mean + limit)
        doubt = uncertainty(len(values)) * float(entry["deviation"])
        if measured.kind == "utility" and measured.transform == "logit":
            goal, bar = _in_accuracy(measured, mean, doubt)
        else:
            goal, bar = (mean - margin, mean + margin), (unlearned - doubt, unlearned + doubt)
    if entry.get("informative") is False:
        goal = None
    return Strip(forward(measured.original), unlearned, values, mean, band, goal, bar, forward, back)


def _in_accuracy(measured: Measured, mean: float, doubt: float) -> tuple[Span, Span]:
    """Goal and bar of a metric of utility: each end of the bar stands for one end of what is uncertain."""
    centre, low, high = (measured.back(mean + moved) for moved in (0.0, -doubt, doubt))

    def place(rate: float) -> float:
        return -math.inf if rate < 0 else math.inf if rate > 1 else measured.forward(rate)

    goal = place(centre - UTILITY_MARGIN), place(centre + UTILITY_MARGIN)
    return goal, (place(measured.unlearned - (high - centre)), place(measured.unlearned + (centre - low)))


def _of_canaries(entry: Entry) -> Strip:
    mean, limit, margin, unlearned = (float(entry[name]) for name in ("mean", "limit", "margin", "unlearned"))
    doubt = float(entry["bound"]) - abs(unlearned - mean)
    return Strip(
        original=float(entry["original"]),
        unlearned=unlearned,
        retrained=(),
        mean=mean,
        band=(mean - limit, mean + limit),
        goal=(mean - margin, mean + margin) if entry.get("informative") else None,
        bar=(unlearned - doubt, unlearned + doubt),
        forward=float,
        back=float,
    )
