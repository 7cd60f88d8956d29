from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.cli_arguments import parse_numbers, parse_options, parse_ratio
from fedunlearn.errors import SettingsError


@given(st.lists(st.integers(), min_size=1))
def test_numbers_come_back_as_they_were_written(numbers: list[int]) -> None:
    assert parse_numbers("samples", ",".join(map(str, numbers))) == numbers


def test_no_numbers_stay_none() -> None:
    assert parse_numbers("classes", None) is None


@pytest.mark.parametrize("text", ["", "3,", "cat", "1.5", "3;4"])
def test_what_is_no_number_is_refused_with_its_name(text: str) -> None:
    with pytest.raises(SettingsError, match=f"^classes = {text!r}: expected whole numbers"):
        parse_numbers("classes", text)


@pytest.mark.parametrize(
    ("text", "ratio"),
    [
        ("auto", "auto"),
        ("0.2", 0.2),
        ("0", 0.0),
        ("conv1=0.1,hidden=1", {"conv1": 0.1, "hidden": 1.0}),
        (" conv1 = 0.1 ", {"conv1": 0.1}),
    ],
)
def test_the_three_forms_of_a_ratio(text: str, ratio: object) -> None:
    assert parse_ratio(text) == ratio


@pytest.mark.parametrize("text", ["", "much", "conv1=", "conv1=0.1,hidden", "conv1=a=b", "conv1=0.1,conv1=0.2", "=0.1"])
def test_other_forms_of_a_ratio_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="expected auto, a share from 0 to 1, or a share a layer"):
        parse_ratio(text)


def test_options_take_the_first_kind_that_fits() -> None:
    texts = ["attribution=ablation", "steps=3", "forget-step=relabel", "bound=1e-3", "keep=true", "map=a=b"]
    assert parse_options(texts) == {
        "attribution": "ablation",
        "steps": 3,
        "forget_step": "relabel",
        "bound": 1e-3,
        "keep": True,
        "map": "a=b",
    }


@pytest.mark.parametrize("text", ["steps", "steps=", "=3", ""])
def test_an_option_without_name_or_value_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="expected NAME=VALUE"):
        parse_options([text])


def test_an_option_given_twice_is_refused() -> None:
    with pytest.raises(SettingsError, match="forget_step is given twice"):
        parse_options(["forget-step=reset", "forget_step=ascent"])
