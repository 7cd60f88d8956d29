"""One form of JSON for what is hashed or signed: the same value gives the same bytes everywhere (RFC 8785).

Members are sorted by the UTF-16 units of their names, numbers are written as ECMAScript writes them, and nothing is
escaped that need not be. One thing goes further than RFC 8785: a whole number beyond 2**53 is written in full, where
the standard wants it as text; whatever is meant for other programs (certificates) has such numbers as text.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

EXACT = 2**53
"""Whole numbers beyond this are not all numbers of ECMAScript."""


def canonical_text(value: Any) -> str:
    """Return the one text of `value`: objects, lists, text, numbers, truth values and None.

    Raises:
        ValueError: a number that JSON cannot say, a name that is no text, or any other kind of value.
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise ValueError("the names of an object must be text")
        names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{canonical_text(name)}:{canonical_text(value[name])}" for name in names) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(canonical_text(item) for item in value) + "]"
    raise ValueError(f"a {type(value).__name__} has no canonical form")


def canonical_bytes(value: Any) -> bytes:
    """Return `canonical_text` as UTF-8. Raises ValueError, also for text that is no Unicode."""
    return canonical_text(value).encode()


def tagged_digest(tag: str, value: Any) -> str:
    """Return the SHA-256 (hexadecimal) of a line with `tag` and the canonical form of `value`.

    The tag says what is hashed, so that the digest of one kind of thing can never be passed off as another's.
    """
    return hashlib.sha256(tagged_bytes(tag, value)).hexdigest()


def tagged_bytes(tag: str, value: Any) -> bytes:
    """Return a line with `tag` and the canonical form of `value`: what is hashed, or signed."""
    return tag.encode() + b"\n" + canonical_bytes(value)


def _number(value: float) -> str:
    """As ECMAScript's Number::toString; Python's repr finds the same shortest digits, and lays them out otherwise."""
    if not math.isfinite(value):
        raise ValueError("infinity and not-a-number have no canonical form")
    if value == 0:
        return "0"
    if value < 0:
        return "-" + _number(-value)
    mantissa, _, exponent = repr(value).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    # The decimal point stands `point` places after the first digit.
    point = int(exponent or 0) + len(whole) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        return digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    rest = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{rest}e{'+' if point > 0 else '-'}{abs(point - 1)}"
