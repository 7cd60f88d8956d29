from __future__ import annotations

import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.canonical import canonical_bytes, canonical_text, tagged_digest

# RFC 8785, appendix B: the bits of a double, and what ECMAScript makes of it.
NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(("bits", "text"), NUMBERS.items())
def test_numbers_are_written_as_the_standard_has_them(bits: str, text: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_text(number) == text


def test_the_example_of_the_standard() -> None:
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"\u002f",
        "literals": [None, True, False],
    }
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical_text(value) == expected


def test_names_are_sorted_by_their_utf_16_units() -> None:
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    found = list(json.loads(canonical_text(dict.fromkeys(names))))
    assert found == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


@given(JSON)
def test_what_is_read_back_has_the_same_form(value: object) -> None:
    assert canonical_text(json.loads(canonical_text(value))) == canonical_text(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_read_back_to_the_last_bit(value: float) -> None:
    assert float(canonical_text(value)) == value


@given(st.dictionaries(st.text(), JSON, min_size=2, max_size=5), st.randoms())
def test_the_order_of_an_object_does_not_count(value: dict, draw) -> None:
    names = list(value)
    draw.shuffle(names)
    assert canonical_bytes({name: value[name] for name in names}) == canonical_bytes(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, {1: 2}, b"", {2}, object(), ["\ud800"]])
def test_what_has_no_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        canonical_bytes(value)


def test_a_whole_number_of_any_size_is_written_in_full() -> None:
    assert canonical_text(2**63 - 1) == "9223372036854775807"


def test_the_tag_is_part_of_the_digest() -> None:
    assert tagged_digest("a", {}) != tagged_digest("b", {})
    # A line of its own: no tag can run into what follows it.
    assert tagged_digest("a", 11) != tagged_digest("a1", 1)
