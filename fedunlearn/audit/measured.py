"""A primary metric as it was measured on all models, and the scale on which they are compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fedunlearn.errors import DataError

Kind = Literal["removal", "utility"]
Transform = Literal["logit", "log"]

LEAST_LOSS = 1e-6
"""A smaller loss counts as this one, which has a logarithm."""


@dataclass(frozen=True)
class Measured:
    """One metric of the original, the unlearned and the retrained models.

    Rates are compared as logit((k + 0.5) / (N + 1)), losses as their logarithm.

    Attributes:
        metric: its name.
        kind: "removal" (is it gone?) or "utility" (is the rest still there?).
        transform: "logit" for a rate k / N, 0 to 1; "log" for a loss, 0 upwards.
        original: of the model that the request found.
        unlearned: of the model that is judged.
        retrained: of each model of the band, in any order.
        samples: N, the samples that a rate is a share of; None for a loss.

    Raises:
        DataError: a value is out of range, or a rate comes without its number of samples.
    """

    metric: str
    kind: Kind
    transform: Transform
    original: float
    unlearned: float
    retrained: tuple[float, ...]
    samples: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("removal", "utility") or self.transform not in ("logit", "log"):
            raise DataError(f"{self.metric}: {self.kind!r} through {self.transform!r} is no metric of a verdict.")
        if (self.transform == "logit") != (self.samples is not None and self.samples >= 1):
            raise DataError(f"{self.metric}: a rate needs its number of samples, 1 or more, and a loss has none.")
        highest = 1.0 if self.transform == "logit" else math.inf
        for value in (self.original, self.unlearned, *self.retrained):
            if not 0.0 <= value <= highest or math.isinf(value):
                expected = "a rate from 0 to 1" if self.transform == "logit" else "a loss of 0 or more"
                raise DataError(f"{self.metric} = {value}: expected {expected}.")

    @staticmethod
    def of(entry: Mapping[str, Any]) -> Measured:
        """What an entry of an audit's "primary" was made from. Raises DataError when it is damaged."""
        try:
            return Measured(
                metric=str(entry["metric"]),
                kind=entry["kind"],
                transform=entry["transform"],
                original=float(entry["original"]),
                unlearned=float(entry["unlearned"]),
                retrained=tuple(float(value) for value in entry["retrained"]),
                samples=None if entry["samples"] is None else int(entry["samples"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"an entry of the audit's primary metrics is damaged ({error!r}); get a copy.") from error

    def forward(self, value: float) -> float:
        """A rate or loss on the scale on which models are compared."""
        if self.samples is None:
            return math.log(max(value, LEAST_LOSS))
        share = (value * self.samples + 0.5) / (self.samples + 1)
        return math.log(share / (1.0 - share))

    def back(self, value: float) -> float:
        """The inverse: a rate (kept within 0 and 1) or a loss."""
        if self.samples is None:
            # Bands of two models are wide enough to leave the range of a float.
            return math.exp(min(value, 700.0))
        share = 1.0 / (1.0 + math.exp(-max(-700.0, min(value, 700.0))))
        return min(1.0, max(0.0, (share * (self.samples + 1) - 0.5) / self.samples))
