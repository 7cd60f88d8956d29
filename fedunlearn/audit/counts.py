"""Adding up what clients report: counts, sums and histograms, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedunlearn.errors import DataError

Number = int | float
Counts = Mapping[str, Number | Sequence[Number]]

MINIMUM_SAMPLES = 20
"""Fewest samples whose losses may be summed or binned: the sum of a single sample's losses is its loss."""


def add(parts: Iterable[Counts | None]) -> dict[str, Any] | None:
    """Sum of the clients' counts, name by name and, in lists, place by place.

    A part that is None was withheld by its client and adds nothing; None when nothing is left.

    Raises:
        DataError: the parts do not have the same names or lengths.
    """
    total: dict[str, Any] | None = None
    for part in parts:
        if part is None:
            continue
        if total is None:
            total = {name: _copy(value) for name, value in part.items()}
            continue
        if set(part) != set(total):
            raise DataError(
                f"one client reports the counts {sorted(part)}, another {sorted(total)}; "
                "run the same audit on every client."
            )
        for name, value in part.items():
            total[name] = _plus(name, total[name], value)
    return total


def leave_few(parts: Iterable[int]) -> bool:
    """Whether the sums of a whole and of its parts, less the parts that are too small to be summed, leave a small rest.

    Args:
        parts: numbers of samples that make up the whole.
    """
    numbers = list(parts)
    rest = sum(number for number in numbers if number < MINIMUM_SAMPLES)
    return 0 < rest < MINIMUM_SAMPLES <= max(numbers)


def total_of(findings: Iterable[Counts], name: str) -> float:
    """Sum of the single numbers that the findings have under `name`."""
    values = [finding[name] for finding in findings]
    return sum(float(value) for value in values if isinstance(value, int | float))


def _copy(value: Number | Sequence[Number]) -> Number | list[Number]:
    return value if isinstance(value, int | float) else list(value)


def _plus(name: str, one: Number | list[Number], other: Number | Sequence[Number]) -> Number | list[Number]:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one + other
    if isinstance(one, list) and not isinstance(other, int | float) and len(one) == len(other):
        return [first + second for first, second in zip(one, other, strict=True)]
    raise DataError(f"clients report {name!r} in different shapes; run the same audit on every client.")
