"""A benchmark's single runs as CSV."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from fedunlearn.reports.benchmark_csv import csv_text


@pytest.fixture
def documents(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Two seeds; the second's test accuracies are 0.02 lower."""
    second = json.loads(json.dumps(document))
    for model in second["models"].values():
        model["test_accuracy"] -= 0.02
    return [{"cell": "ten", "seed": 0, **document}, {"cell": "ten", "seed": 1, **second}]


def rows_of(documents: list[dict[str, Any]]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(documents))))


def test_there_is_one_row_a_run_model_and_stage(documents: list[dict[str, Any]]) -> None:
    rows = rows_of(documents)
    # Nine models right after, two after five further rounds; the original is not told twice.
    assert len(rows) == 2 * (9 + 2)
    later = [(row["seed"], row["model"]) for row in rows if row["rounds_after"] == "5"]
    assert later == [(seed, model) for seed in "01" for model in ("unlearned", "retrained")]


def test_numbers_stand_unrounded_in_columns_of_their_own(documents: list[dict[str, Any]]) -> None:
    row = next(row for row in rows_of(documents) if row["model"] == "unlearned" and row["seed"] == "1")
    assert float(row["test_accuracy"]) == pytest.approx(0.921)
    assert float(row["forget.untriggered.loss"]) == 0.128
    # (0.128 - 0.043) / (0.160 - 0.043)
    assert float(row["share_of_the_way.forget.untriggered.loss"]) == pytest.approx(0.085 / 0.117)
    assert float(row["distance_to_retrained.forget.untriggered.loss"]) == pytest.approx(0.032)
    assert float(row["cost_share.client_epochs"]) == pytest.approx(0.1)
    assert 0.9 < float(row["test_accuracy_by_class.3"]) < 1
    assert row["canary_exposure"] == row["void"] == ""


def test_void_runs_are_there_and_marked(documents: list[dict[str, Any]]) -> None:
    documents[0]["void"] = "it did not take."
    assert {row["seed"]: row["void"] for row in rows_of(documents)} == {"0": "it did not take.", "1": ""}


def test_no_document_gives_no_row() -> None:
    assert rows_of([]) == []
