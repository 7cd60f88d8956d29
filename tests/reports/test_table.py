from __future__ import annotations

import csv
import io
import subprocess
import sys
from typing import Any

from rich.console import Console

from fedunlearn.reports.table import comparison_table, csv_rows, csv_text, markdown


def printed(document: dict[str, Any], width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(comparison_table(document))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_eighty_columns_hold_every_model_and_number(document: dict[str, Any]) -> None:
    text = printed(document)
    assert "…" not in text.replace("… with base model", "")
    assert max(len(line) for line in text.splitlines()) <= 80
    for part in ("Mostly forgotten.", "94.1%", "88.4%", "0.128", "Scrubbing".lower(), "After 5 further"):
        assert part in text
    assert "Canary" not in text


def test_the_answer_comes_first(document: dict[str, Any]) -> None:
    assert printed(document).startswith("Mostly forgotten.")
    assert printed({}).startswith("There is no answer yet.")


def test_markdown_has_a_row_a_model(document: dict[str, Any]) -> None:
    lines = markdown(document).splitlines()
    rows = [line for line in lines if line.startswith("| ") and "model" not in line]
    assert len(rows) == len(document["models"]) + 2
    assert len({line.count("|") for line in rows[: len(document["models"])]}) == 1
    assert "| Unlearned | 94.1% |" in markdown(document)
    assert "There is no answer yet." in markdown({})


def test_csv_keeps_every_number(document: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(document))))
    assert [row["model"] for row in rows[:2]] == ["original", "unlearned"]
    assert float(rows[1]["forget.untriggered.loss"]) == 0.128
    assert float(rows[1]["cost.bytes_up"]) == document["models"]["unlearned"]["cost"]["bytes_up"]
    assert rows[1]["canary_exposure"] == ""
    assert float(rows[0]["test_accuracy_by_class.3"]) == document["models"]["original"]["test_accuracy_by_class"]["3"]
    assert {row["rounds_after"] for row in rows} == {"0", "5"}
    assert csv_rows({}) == []
    assert csv_text({}).startswith("model,rounds_after,test_accuracy")


def test_a_table_needs_no_plotting_library() -> None:
    program = "import sys, fedunlearn.reports.table; sys.exit('matplotlib' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
