from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import SettingsError
from fedunlearn.strategies.option import choice, number, positive, switch, whole


def given_as(**options: object) -> UnlearnSettings:
    return UnlearnSettings(options=options)  # type: ignore[arg-type]


def test_what_is_not_given_has_its_default() -> None:
    nothing = given_as()
    assert number(nothing, "alpha", 0.5) == 0.5
    assert positive(nothing, "rate", 2.0) == 2.0
    assert whole(nothing, "steps", 3) == 3
    assert choice(nothing, "kind", ("one", "two")) == "one"
    assert switch(nothing, "rewind", True) is True


@given(st.floats(0, 5))
def test_a_number_within_its_bounds_is_taken(value: float) -> None:
    assert number(given_as(alpha=value), "alpha", 9.0, highest=5.0) == value


@pytest.mark.parametrize("value", [-0.1, 1.1, math.inf, math.nan, True, "much"])
def test_a_number_outside_its_bounds_is_refused(value: object) -> None:
    with pytest.raises(SettingsError, match=r"alpha = .*: expected a number 0 or more, at most 1\."):
        number(given_as(alpha=value), "alpha", 0.5, highest=1.0)


def test_a_positive_number_is_above_0() -> None:
    assert number(given_as(rate=0), "rate", 1.0) == 0.0
    with pytest.raises(SettingsError, match="expected a number above 0"):
        positive(given_as(rate=0), "rate", 1.0)


@pytest.mark.parametrize("value", [0, 6, 2.0, True, "two"])
def test_a_whole_number_is_one(value: object) -> None:
    assert whole(given_as(steps=5), "steps", 2, lowest=1, highest=5) == 5
    with pytest.raises(SettingsError, match="expected a whole number, from 1 to 5"):
        whole(given_as(steps=value), "steps", 2, lowest=1, highest=5)


def test_words_and_switches_are_checked() -> None:
    assert choice(given_as(kind="two"), "kind", ("one", "two")) == "two"
    with pytest.raises(SettingsError, match="kind = 'three': expected one of one, two"):
        choice(given_as(kind="three"), "kind", ("one", "two"))
    with pytest.raises(SettingsError, match="rewind = 1: expected true or false"):
        switch(given_as(rewind=1), "rewind", False)
