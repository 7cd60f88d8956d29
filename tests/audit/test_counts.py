from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.audit.counts import add, leave_few
from fedunlearn.errors import DataError


@given(st.lists(st.tuples(st.integers(0, 99), st.lists(st.integers(0, 99), min_size=3, max_size=3)), min_size=1))
def test_sums_name_by_name_and_place_by_place(parts: list[tuple[int, list[int]]]) -> None:
    total = add({"n": number, "bins": bins} for number, bins in parts)
    assert total == {
        "n": sum(number for number, _ in parts),
        "bins": [sum(bins[place] for _, bins in parts) for place in range(3)],
    }


def test_leaves_the_clients_counts_as_they_were() -> None:
    first = {"bins": [1, 2]}
    add([first, {"bins": [10, 20]}])
    assert first == {"bins": [1, 2]}


def test_withheld_parts_add_nothing() -> None:
    assert add([None, {"n": 3}, None, {"n": 4}]) == {"n": 7}
    assert add([None, None]) is None
    assert add([]) is None


@pytest.mark.parametrize("other", [{"m": 1}, {"n": [1]}, {"n": 1, "m": 1}])
def test_different_audits_do_not_add_up(other: dict[str, object]) -> None:
    with pytest.raises(DataError, match="same audit"):
        add([{"n": 1}, other])  # type: ignore[list-item]


def test_lists_of_different_lengths_do_not_add_up() -> None:
    with pytest.raises(DataError, match="different shapes"):
        add([{"bins": [1, 2]}, {"bins": [1, 2, 3]}])


@pytest.mark.parametrize(
    ("parts", "few"),
    [
        ([5, 30, 0], True),
        ([5, 10, 30], True),
        ([30, 40, 0], False),
        ([10, 12, 30], False),
        ([5, 10, 0], False),
        ([0] * 3, False),
    ],
)
def test_a_rest_of_few_samples_is_seen(parts: list[int], few: bool) -> None:
    assert leave_few(parts) is few
