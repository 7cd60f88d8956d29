from __future__ import annotations

from typing import Any

import pytest

from fedunlearn.reports.measures import MEASURES, present, shown, shown_bytes, shown_gap


def test_every_measure_is_explained() -> None:
    assert len({measure.key for measure in MEASURES}) == len({measure.label for measure in MEASURES}) == len(MEASURES)
    for measure in MEASURES:
        assert measure.meaning.endswith(".")
        assert measure.role in ("ability", "memory", "cost")
        assert (measure.informative > 0) == (measure.role != "cost")
        assert len(measure.label) <= 22, "the label has to fit a terminal"


def test_only_what_is_known_is_present(document: dict[str, Any]) -> None:
    keys = [measure.key for measure in present(document["models"].values())]
    assert "backdoor_success" in keys and "forget.untriggered.loss" in keys
    assert "canary_exposure" not in keys and "forget.canaries.loss" not in keys
    assert present([]) == []


def test_the_forget_set_is_not_pooled_where_it_has_parts() -> None:
    whole = {"forget": {"all": {"accuracy": 0.5, "loss": 1.0}}}
    parts = {"forget": {**whole["forget"], "triggered": {"accuracy": 0.5, "loss": None}}}
    assert [m.key for m in present([whole])] == ["forget.all.accuracy", "forget.all.loss"]
    assert [m.key for m in present([whole, parts])] == ["forget.triggered.accuracy"]


@pytest.mark.parametrize(
    ("number", "kind", "text"),
    [
        (0.9448, "share", "94.5%"),
        (None, "share", "–"),
        (0.04321, "loss", "0.043"),
        (3.0, "count", "3"),
        (1234, "count", "1,234"),
        (2.5, "count", "2.5"),
        (4.21, "seconds", "4.2 s"),
        (150.0, "seconds", "2.5 min"),
        (999, "bytes", "999 B"),
        (390_000, "bytes", "390 kB"),
        (8_940_000, "bytes", "8.9 MB"),
        (12e9, "bytes", "12.0 GB"),
        (664_740, "operations", "665 kFLOP"),
    ],
)
def test_numbers_for_people(number: float | None, kind: str, text: str) -> None:
    assert shown(number, kind) == text


def test_differences_have_a_sign() -> None:
    assert shown_gap(-0.012, "share") == "−1.2"
    assert shown_gap(0.5, "loss") == "+0.500"
    assert shown_gap(None, "share") == ""
    assert shown_bytes(0) == "0 B"
