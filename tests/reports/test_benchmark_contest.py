"""What a contest's documents say over their seeds: refusals, budgets, the retrained band."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fedunlearn.reports.aggregate import aggregate, as_json
from fedunlearn.reports.benchmark_contest_tables import (
    allowed_words,
    band_range,
    band_words,
    contest_lines,
    refusals,
    tuning_lines,
)
from fedunlearn.reports.benchmark_csv import csv_text, kind_of_row, rows
from fedunlearn.reports.benchmark_measures import BY_KEY
from fedunlearn.reports.benchmark_tables import markdown
from fedunlearn.reports.benchmark_tries import tries_csv
from fedunlearn.reports.provenance import provenance


def entry(cannot: str | None = None, **budget: Any) -> dict[str, Any]:
    """A contender's entry, within 3.75 client epochs unless `budget` says otherwise."""
    known = {"of": "client_epochs", "allowed": 3.75, "spent": 3.0, "rounds": 3, "own_rounds": False, "over": False}
    settings = {"method": "ssd", "rounds": 3, "local_epochs": 1, "learning_rate": None, "ratio": "auto", "options": {}}
    return {"method": "ssd", "kind": "centralised", "settings": settings, "cannot": cannot, "budget": known | budget}


@pytest.fixture
def documents(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Two seeds with a band of three; the second's further retrained models are 0.1 less accurate in test."""
    del document["models"]["unlearned"], document["after"]
    found = []
    for seed in (0, 1):
        copy = json.loads(json.dumps(document))
        models = copy["models"]
        for number in (1, 2):
            member = json.loads(json.dumps(models["retrained"]))
            member["test_accuracy"] -= 0.02 * number + 0.1 * seed
            models[f"retrained-band-{number}"] = member
        models["ssd"] = models.pop("random-channels")
        copy["methods"] = {
            "ssd": entry(spent=3.0 + seed, over=bool(seed)),
            "federaser": entry("it needs stored updates.", allowed=None, spent=None, rounds=None),
        }
        copy["band"] = ["retrained-band-1", "retrained-band-2"]
        found.append({"cell": "leaving", "seed": seed, **copy})
    return found


TUNING = {
    "tries": 2,
    "seeds": [7],
    "cells": {
        "leaving": {
            "ssd": [
                {
                    "number": 1,
                    "changes": {},
                    "distance": {"mean": 0.1, "deviation": None, "least": 0.1, "most": 0.1, "count": 1},
                    "cannot": {},
                    "chosen": True,
                },
                {"number": 2, "changes": {"selection": 5}, "distance": None, "cannot": {"7": "no."}, "chosen": False},
            ],
            "federaser": [{"number": 1, "changes": {}, "distance": None, "cannot": {}, "chosen": True}],
        }
    },
}


def test_the_band_has_no_rows_and_says_how_far_retrained_models_are_apart(documents: list[dict[str, Any]]) -> None:
    (cell,) = aggregate(documents)
    assert not any(name.startswith("retrained-band") for name in (*cell.models, *cell.curves))
    band = cell.band
    assert band is not None and band.size == 3
    # Least: mean of 0.948 - 0.04 and 0.948 - 0.14; most: the reference itself.
    assert band.figures["test_accuracy"] == pytest.approx((0.858, 0.948))
    assert band_range(band, BY_KEY["test_accuracy"]) == "85.8% to 94.8%"
    figures = len(cell.distance_over)
    assert band.distance is not None
    assert band.distance.mean == pytest.approx((0.02 + 0.04 + 0.12 + 0.14) / 4 / figures)
    assert band.distance.most == pytest.approx(0.14 / figures)
    assert band.holds(band.distance) and not band.holds(cell.models["fine-tuned"].distance) and not band.holds(None)
    assert "Within that: " in band_words(cell)[0]
    assert as_json(cell)["retrained_band"]["size"] == 3


def test_without_a_band_nothing_is_said_of_one(document: dict[str, Any]) -> None:
    (cell,) = aggregate([{"cell": "", "seed": 0, **document}])
    assert cell.band is None and band_words(cell) == [] and contest_lines(cell) == []
    assert as_json(cell)["retrained_band"] is None and as_json(cell)["methods"] == {}


def test_what_each_got_of_the_budget_and_why_one_cannot(documents: list[dict[str, Any]]) -> None:
    (cell,) = aggregate(documents)
    ssd, refused = cell.contenders["ssd"], cell.contenders["federaser"]
    assert ssd.spent is not None and (ssd.allowed, ssd.spent.mean, ssd.over) == (3.75, 3.5, (1,))
    assert allowed_words(ssd) == "3.75, **over** on seed 1"
    assert allowed_words(refused) == "cannot" and refused.spent is None
    assert refusals(cell) == [("federaser", "it needs stored updates.")]
    page = "\n".join(contest_lines(cell))
    assert "may spend 3.75 client epochs" in page
    assert "- FedEraser cannot: it needs stored updates." in page
    assert "Farther from retrained" not in page
    for document in documents:
        document["models"]["ssd"]["backdoor_success"] = 1.0
        document["models"]["ssd"]["test_accuracy"] = 0.1
    assert "Farther from retrained than fine-tuning only: SSD." in contest_lines(aggregate(documents)[0])
    documents[1]["methods"]["federaser"] = entry()
    assert refusals(aggregate(documents)[0]) == [("federaser", "it needs stored updates. (seeds 0)")]


def test_the_markdown_has_band_budget_and_tries(documents: list[dict[str, Any]]) -> None:
    cells = aggregate(documents)
    page = markdown("x", "", cells, provenance(documents, "2026"), {}, TUNING)
    lines = page.splitlines()
    after_retrained = [lines[i + 1] for i, line in enumerate(lines) if line.startswith("| Retrained | ")]
    assert all(line.startswith("| Retrained, 3 models |") for line in after_retrained[:2])
    assert "### Budget" in page and "## Tuning" in page
    assert "| SSD | 1 | as it stands | 10.0% | yes |" in page
    assert "| SSD | 2 | selection = 5 | cannot: no. |  |" in page
    assert "| FedEraser | 1 | as it stands (no space) | – | yes |" in tuning_lines(TUNING)
    assert 'Methods: `{"ssd": {"method": "ssd"' in page


def test_rows_say_what_a_contest_knows(documents: list[dict[str, Any]]) -> None:
    found = [row for row in rows(documents) if row["seed"] == 0]
    by_name = {str(row["model"]): row for row in found}
    assert (by_name["ssd"]["kind"], by_name["ssd"]["budget_spent"], by_name["ssd"]["over_budget"]) == (
        "centralised",
        3.0,
        0,
    )
    assert by_name["federaser"]["cannot"] == "it needs stored updates."
    assert "test_accuracy" not in by_name["federaser"]
    kinds = {name: kind_of_row(documents[0], name) for name in ("retrained", "retrained-band-1", "trigger-scrubbing")}
    assert list(kinds.values()) == ["reference", "band", "control"]
    assert "retrained-band-2" in csv_text(documents)


def test_void_seeds_count_in_no_budget(documents: list[dict[str, Any]]) -> None:
    documents[1]["void"] = "it did not take."
    (cell,) = aggregate(documents)
    spent = cell.contenders["ssd"].spent
    assert spent is not None and (spent.mean, spent.count) == (3.0, 1)


def test_tries_are_rows() -> None:
    lines = tries_csv(TUNING).splitlines()
    assert len(lines) == 4
    assert lines[2] == 'leaving,ssd,2,"{""selection"": 5}",,,0,seed 7: no.,0'
