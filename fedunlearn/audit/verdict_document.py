"""The verdict as a part of the audit's document, and found again from nothing but that document."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fedunlearn.audit.band_width import MINIMUM_MODELS
from fedunlearn.audit.canary_verdict import CanaryVerdict, judge_canaries_of
from fedunlearn.audit.measured import Measured
from fedunlearn.audit.verdict import Outcome, Verdict, judge
from fedunlearn.errors import DataError

TOLERANCE = 1e-9
"""Relative; what is recomputed on another machine may differ in its last bits."""


@dataclass(frozen=True)
class Finding:
    """What an audit finds.

    Attributes:
        rests_on: "band", or "canaries" where too few retrained models were paid for and there are canaries.
    """

    outcome: Outcome
    why: str
    rests_on: Literal["band", "canaries"]
    band: Verdict | None
    canaries: CanaryVerdict | None

    def document(self) -> dict[str, Any]:
        """The keys "primary", "canaries", "rests_on", "verdict" and "why" of an audit's document."""
        return {
            "primary": [] if self.band is None else [one.document() for one in self.band.metrics],
            "canaries": None if self.canaries is None else self.canaries.document(),
            "rests_on": self.rests_on,
            "verdict": self.outcome,
            "why": self.why,
        }


def find(measured: Sequence[Measured], canaries: CanaryVerdict | None = None) -> Finding:
    """The band's verdict; with fewer than eight retrained models that of the canaries, unless the band fails.

    Raises:
        DataError: neither a metric nor a canary was measured, or the metrics are no set that can be judged.
    """
    if not measured and canaries is None:
        raise DataError("nothing was measured that a verdict could rest on.")
    band = judge(measured) if measured else None
    too_few = band is None or (band.models < MINIMUM_MODELS and band.outcome != "fail")
    if canaries is not None and too_few:
        return Finding(canaries.outcome, canaries.why, "canaries", band, canaries)
    assert band is not None
    return Finding(band.outcome, band.why, "band", band, canaries)


def find_again(document: Mapping[str, Any]) -> Finding:
    """The verdict of a document, out of nothing but what it says was measured.

    Raises:
        DataError: the document is damaged.
    """
    entries, canaries = document.get("primary"), document.get("canaries")
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise DataError("the audit has no list of primary metrics; its verdict cannot be found again.")
    return find([Measured.of(entry) for entry in entries], None if canaries is None else judge_canaries_of(canaries))


def deviations(document: Mapping[str, Any]) -> list[str]:
    """Where a document states something else than follows from what it says was measured; none: it is sound.

    Each is one sentence that names the statement.

    Raises:
        DataError: the document is damaged.
    """
    again = find_again(document)
    wrong = []
    stated = {key: document.get(key) for key in ("verdict", "why", "rests_on")}
    for key, value in stated.items():
        if value != again.document()[key]:
            wrong.append(f"{key} is stated as {value!r} and follows as {again.document()[key]!r}.")
    for entry, right in zip(document["primary"], again.document()["primary"], strict=True):
        for key, value in right.items():
            if not _same(entry.get(key), value):
                wrong.append(f"{right['metric']}: {key} is stated as {entry.get(key)!r} and follows as {value!r}.")
    if again.canaries is not None:
        for key, value in again.canaries.document().items():
            if not _same(document["canaries"].get(key), value):
                found = document["canaries"].get(key)
                wrong.append(f"canaries: {key} is stated as {found!r} and follows as {value!r}.")
    size = document.get("band", {}).get("size", 0)
    if again.band is not None and size != again.band.models:
        wrong.append(f"the band is stated to have {size} models and was measured on {again.band.models}.")
    for number, earlier in enumerate(document.get("earlier", ()), start=1):
        wrong += [f"earlier request {number}: {one}" for one in deviations(earlier)]
    return wrong


def _same(one: Any, other: Any) -> bool:
    if isinstance(other, list):
        return isinstance(one, list) and len(one) == len(other) and all(map(_same, one, other))
    if isinstance(other, float) and isinstance(one, int | float) and not isinstance(one, bool):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(one == other)
