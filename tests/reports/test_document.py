from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedunlearn.reports.document import (
    after_of,
    clean,
    joined,
    label_of,
    models_of,
    request_sentence,
    rounds_of,
    value,
)


def test_reads_numbers_at_dotted_keys() -> None:
    model = {"a": {"b": {"c": 0.5}}, "n": 3, "broken": math.nan, "flag": True, "text": "0.5"}
    assert value(model, "a.b.c") == 0.5
    assert value(model, "n") == 3
    for key in ("a.b", "a.x.c", "n.m", "broken", "flag", "text", "missing"):
        assert value(model, key) is None
    assert value(None, "a") is None


def test_shows_known_models_first_and_leaves_out_missing_ones() -> None:
    models = {
        "zeroed": {"x": 1},
        "retrained": {"x": 1},
        "fine-tuned": None,
        "original": {"x": 1},
        "empty": {},
    }
    assert list(models_of({"models": models})) == ["original", "retrained", "zeroed"]
    assert models_of({}) == {}
    assert models_of({"models": None}) == {}


def test_reads_both_forms_of_later_rounds() -> None:
    expected = {5: {"unlearned": {"x": 1}}}
    assert after_of({"after": {"5": {"unlearned": {"x": 1}}}}) == expected
    assert after_of({"after": {"rounds": 5, "models": {"unlearned": {"x": 1}}}}) == expected
    assert after_of({"after": None}) == {}
    assert after_of({"after": {"rounds": 5, "models": None}}) == {}


def test_branches_count_from_the_request(document: dict[str, Any]) -> None:
    for record in document["rounds"]["unlearned"]:
        record["round"] += 15
    found = rounds_of(document)
    assert [record["round"] for record in found["unlearned"]] == [1, 2, 3]
    assert [record["round"] for record in found["retrained"]] == list(range(1, 16))
    assert rounds_of({"rounds": {"original": None, "x": [None, {"round": None}, {"round": 1}]}}) == {
        "x": [{"round": 1}]
    }


@pytest.mark.parametrize(
    ("request_part", "sentence"),
    [
        ({"scope": "client", "clients": [3], "count": 1234}, "everything that client 3 contributed (1,234"),
        (
            {"scope": "classes", "clients": [3], "classes": ["7", "9"]},
            "what client 3 contributed on classes 7 and 9.",
        ),
        ({"scope": "class-everywhere", "clients": [0, 1, 2], "classes": [3]}, "forget class 3 everywhere."),
        ({"scope": "samples", "clients": [3], "count": 12}, "forget 12 of the samples of client 3."),
        ({"scope": "client", "clients": [1, 2, 4]}, "clients 1, 2 and 4 contributed."),
        (
            {"scope": "several", "clients": [0, 1], "classes": ["5"], "count": 40},
            "served together: forget what clients 0 and 1 asked for (40 samples).",
        ),
        (None, "No deletion request"),
    ],
)
def test_says_what_was_asked(request_part: dict[str, Any] | None, sentence: str) -> None:
    assert sentence in request_sentence({"request": request_part})


def test_names_for_people() -> None:
    assert label_of("retrained-same-budget") == "Retrained, same budget"
    assert label_of("random-channels") == "Random channels"
    assert label_of("") == ""


def test_cleans_what_json_cannot_hold() -> None:
    dirty = {
        "nan": math.nan,
        "infinite": math.inf,
        3: np.float32(0.5),
        "array": np.arange(3),
        "path": Path("a/b"),
        "nested": ({"x": np.int64(4)}, True, None),
    }
    expected = {
        "nan": None,
        "infinite": None,
        "3": 0.5,
        "array": [0, 1, 2],
        "path": "a/b",
        "nested": [{"x": 4}, True, None],
    }
    assert clean(dirty) == expected
    json.dumps(clean(dirty), allow_nan=False)


@pytest.mark.parametrize(
    ("parts", "text"),
    [(["A bound.", "No claim."], "A bound. No claim."), (["one", "two"], "one, two"), (["One.", "two"], "One., two")],
)
def test_sentences_need_no_comma(parts: list[str], text: str) -> None:
    assert joined(parts) == text
    assert (joined([]), joined(parts[:1])) == ("", parts[0])
