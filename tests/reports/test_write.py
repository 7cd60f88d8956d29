from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from fedunlearn.errors import RunFolderError
from fedunlearn.reports.document import clean
from fedunlearn.reports.write import write_report

FIGURES = {"forgetting", "distance", "accuracy", "attribution", "cost"}


def test_writes_everything_and_names_the_page_first(comparison: dict[str, Any], report: tuple[Path, ...]) -> None:
    folder = report[0].parent
    assert report[0] == folder / "report.html"
    assert {path.name for path in report} == {
        "report.html",
        "comparison.json",
        "comparison.csv",
        "comparison.md",
        *(f"{name}.png" for name in FIGURES),
    }
    assert set(folder.rglob("*.*")) == set(report)
    assert json.loads((folder / "comparison.json").read_text()) == clean(comparison)
    assert report[0].stat().st_size < 1_000_000
    assert report[0].read_text().count("data:image/png;base64,") == len(FIGURES)


def test_a_second_report_replaces_the_first(document: dict[str, Any], tmp_path: Path) -> None:
    first = write_report({"models": document["models"]}, tmp_path)
    assert "cost.png" in {path.name for path in first}
    second = write_report({"models": {"original": {"test_accuracy": math.nan}}}, tmp_path)
    assert set(tmp_path.rglob("*.*")) == set(second)
    written = json.loads((tmp_path / "comparison.json").read_text())
    assert written["models"]["original"]["test_accuracy"] is None


def test_a_folder_that_cannot_be_made_is_a_sentence(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="file"):
        write_report(document, tmp_path / "file")
