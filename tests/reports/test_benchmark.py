"""What a benchmark writes: tables, rows, pictures and provenance, all from the same documents."""

from __future__ import annotations

import csv
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fedunlearn.errors import SettingsError
from fedunlearn.reports.benchmark import write_benchmark


def clock() -> datetime:
    return datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.fixture
def documents(document: dict[str, Any]) -> list[dict[str, Any]]:
    """One cell with a name that is no file name, two seeds; the second's test accuracies are 0.02 lower."""
    second = json.loads(json.dumps(document))
    for model in second["models"].values():
        model["test_accuracy"] -= 0.02
    return [{"cell": "ten/10", "seed": 0, **document}, {"cell": "ten/10", "seed": 1, **second}]


TABLES = {"results.json", "results.csv", "results.parquet", "results.md", "results.tex", "index.html"}


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_tables_rows_and_pictures_are_written(documents: list[dict[str, Any]], tmp_path: Path) -> None:
    documents[0]["models"]["fine-tuned"]["test_accuracy"] = float("nan")
    out = tmp_path / "deep" / "out"
    results = write_benchmark("leaving", "Does it forget?", documents, out, now=clock)
    pictures = {"figures/distance-by-round-ten-10.png", "figures/trade-off-ten-10.png"}
    assert files_in(out) == TABLES | pictures
    assert json.loads((out / "results.json").read_text()) == results
    models = results["cells"][0]["models"]
    figure = models["unlearned"]["figures"]["test_accuracy"]
    assert (figure["mean"], figure["deviation"]) == pytest.approx((0.931, 0.02 / 2**0.5))
    assert models["fine-tuned"]["figures"]["test_accuracy"]["count"] == 1
    assert results["provenance"]["date"] == "2026-03-04T05:06:07+00:00"
    page = (out / "results.md").read_text()
    assert all(f"]({picture})" in page for picture in pictures)
    with (out / "results.csv").open(newline="") as file:
        assert {row["seed"] for row in csv.DictReader(file)} == {"0", "1"}
    for picture in pictures:
        with Image.open(out / picture) as image:
            assert min(image.size) > 500


def test_pictures_of_an_earlier_writing_go_away(documents: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "trade-off-eleven.png").write_bytes(b"old")
    for document in documents:
        document["void"] = "it did not take."
    write_benchmark("leaving", "", documents, tmp_path, now=clock)
    assert files_in(tmp_path) == TABLES


def test_a_document_with_almost_nothing_in_it_is_tabulated(tmp_path: Path) -> None:
    bare = {"cell": "", "seed": 0, "models": {"original": {"test_accuracy": 0.5}}}
    write_benchmark("bare", "", [bare], tmp_path, now=clock)
    assert "| Original | 50.0% |" in (tmp_path / "results.md").read_text()
    assert files_in(tmp_path) == TABLES


def test_without_pyarrow_all_other_tables_are_written(
    documents: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SettingsError, match="needs the package pyarrow: install it with pip"):
        write_benchmark("leaving", "", documents, tmp_path, now=clock)
    assert files_in(tmp_path) >= TABLES - {"results.parquet"}
    assert "results.parquet" not in files_in(tmp_path)


def test_the_tries_have_a_file_of_their_own(documents: list[dict[str, Any]], tmp_path: Path) -> None:
    tuning = {"tries": 2, "seeds": [7], "cells": {}}
    results = write_benchmark("leaving", "", documents, tmp_path, now=clock, tuning=tuning)
    assert results["tuning"] == tuning
    assert files_in(tmp_path) > TABLES | {"tries.csv"}
    assert "## Tuning" in (tmp_path / "results.md").read_text()
