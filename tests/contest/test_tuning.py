"""Tries: which are made, and which of them is chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.contest.tuning import as_json, best_of, candidates, judged, name_of
from fedunlearn.reports.spread import spread

SPACE = {"ratio": [0.1, 0.2, 0.3], "learning_rate": [0.01, 0.02]}
spaces = st.dictionaries(
    st.sampled_from(["a", "b", "c"]), st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True)
)


def test_a_small_space_is_made_in_full_after_the_method_as_it_stands() -> None:
    found = candidates("x", SPACE, 9)
    assert found[0] == {}
    assert found[1:] == tuple(
        {"ratio": ratio, "learning_rate": rate} for ratio in (0.1, 0.2, 0.3) for rate in (0.01, 0.02)
    )
    assert candidates("x", {}, 9) == ({},)


@given(space=spaces, tries=st.integers(1, 20))
def test_tries_are_as_many_as_stated_all_different_and_all_of_the_space(
    space: dict[str, list[int]], tries: int
) -> None:
    found = candidates("x", space, tries)
    total = math.prod(len(values) for values in space.values()) if space else 0
    assert len(found) == min(tries, 1 + total)
    assert len({tuple(one.items()) for one in found}) == len(found)
    assert all(set(one) == set(space) and all(one[name] in space[name] for name in space) for one in found[1:])
    assert found == candidates("x", space, tries)


def test_who_is_drawn_depends_on_the_name() -> None:
    space = {"a": list(range(50)), "b": list(range(50))}
    assert candidates("x", space, 5) != candidates("y", space, 5)


def document(seed: int, accuracies: dict[str, float], cannot: Sequence[str] = ()) -> dict[str, Any]:
    """A comparison in which the retrained model's accuracy is 0.9."""
    models = {"original": 0.99, "retrained": 0.9, **accuracies}
    return {
        "cell": "",
        "seed": seed,
        "models": {name: {"test_accuracy": value} for name, value in models.items()},
        "methods": {
            name: {
                "method": "x",
                "kind": "other",
                "settings": {},
                "cannot": "it needs a target.",
                "budget": {"of": "bytes", "allowed": None, "spent": None, "rounds": None, "own_rounds": 0, "over": 0},
            }
            for name in cannot
        },
    }


def test_the_try_nearest_to_retrained_on_all_validation_requests_is_chosen() -> None:
    tried = {"x": ({}, {"ratio": 0.1}, {"ratio": 0.2}), "y": ({},)}
    first, second, third = (name_of("x", number) for number in (1, 2, 3))
    documents = [
        document(7, {first: 0.80, second: 0.89, third: 0.85}),
        # Better than retrained is a distance, too; the second try's mean is (0.01 + 0.09) / 2.
        document(8, {first: 0.80, second: 0.99, third: 0.88}),
    ]
    found = judged(tried, documents)
    assert [one.chosen for one in found["x"]] == [False, False, True]
    means = [one.distance.mean for one in found["x"] if one.distance is not None]
    assert means == pytest.approx([0.1, 0.05, 0.035])
    assert [(one.chosen, one.distance) for one in found["y"]] == [(True, None)]
    plain = as_json(found)["x"][2]
    assert (plain["number"], plain["changes"], plain["chosen"]) == (3, {"ratio": 0.2}, True)
    assert plain["distance"]["count"] == 2


def test_a_try_that_could_not_run_everywhere_comes_after_those_that_could() -> None:
    first, second = name_of("x", 1), name_of("x", 2)
    documents = [
        document(7, {first: 0.5, second: 0.9}),
        document(8, {first: 0.5}, cannot=[second]),
    ]
    found = judged({"x": ({}, {"ratio": 0.1})}, documents)["x"]
    assert [one.chosen for one in found] == [True, False]
    assert found[1].cannot == {8: "it needs a target."}


def test_void_requests_decide_nothing() -> None:
    first, second = name_of("x", 1), name_of("x", 2)
    documents = [
        document(7, {first: 0.89, second: 0.5}),
        {**document(8, {first: 0.1, second: 0.9}), "void": "it did not take."},
    ]
    assert [one.chosen for one in judged({"x": ({}, {"ratio": 0.1})}, documents)["x"]] == [True, False]


def test_equal_ones_and_unknown_ones() -> None:
    one, other = spread([0.1, 0.3]), spread([0.2, 0.2])
    assert best_of([None, one, other]) == 1
    assert best_of([None, None]) == 0
    assert judged({"x": ({}, {"ratio": 0.1})}, [])["x"][0].chosen
