"""Mean and spread over seeds, against values worked out by hand."""

from __future__ import annotations

import pytest

from fedunlearn.reports.spread import Spread, shown_spread, spread


def test_mean_and_sample_deviation_are_those_worked_out_by_hand() -> None:
    # Mean 4; squares of the differences 4 + 0 + 4 = 8, divided by 3 - 1: deviation 2.
    assert spread([2.0, 4.0, 6.0]) == Spread(mean=4.0, deviation=2.0, least=2.0, most=6.0, count=3)


def test_what_is_missing_or_not_finite_does_not_count() -> None:
    assert spread([None, 1.0, float("nan"), 3.0, float("inf")]) == Spread(2.0, 2**0.5, 1.0, 3.0, 2)


def test_a_single_seed_has_no_deviation_and_none_has_nothing() -> None:
    assert spread([0.25]) == Spread(0.25, None, 0.25, 0.25, 1)
    assert spread([None, float("nan")]) is None


@pytest.mark.parametrize(
    ("values", "kind", "text"),
    [
        ([0.94, 0.96], "share", "95.0% ± 1.4"),
        ([0.5, 0.6, 0.7], "score", "0.600 ± 0.100"),
        ([0.5], "loss", "0.500"),
        ([3, 3, 3], "count", "3"),
        ([2, 4], "count", "3 ± 1.4"),
        ([1000, 3000], "bytes", "2.0 kB ± 1.4 kB"),
    ],
)
def test_a_spread_reads_as_its_kind(values: list[float], kind: str, text: str) -> None:
    assert shown_spread(spread(values), kind) == text


def test_it_says_when_seeds_lack_the_figure() -> None:
    assert shown_spread(spread([0.5, None]), "score", seeds=2) == "0.500 (1 of 2 seeds)"
    assert shown_spread(None, "score", seeds=2) == "–"
