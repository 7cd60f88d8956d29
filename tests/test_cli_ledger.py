from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from fedunlearn.cli import main
from fedunlearn.federation import Federation
from fedunlearn.server.ledger_chain import Entry
from fedunlearn.server.ledger_verify import verify_chain


def answer(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> Any:
    """The JSON document of a command."""
    assert main([*words, "--json"]) == status, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def run(audited: Federation) -> str:
    return str(audited.folder)


@pytest.mark.parametrize("command", ["show", "verify", "export", "lineage"])
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main(["ledger", command, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_entries_are_shown(capsys: pytest.CaptureFixture[str], run: str) -> None:
    entries = answer(capsys, "ledger", "show", run)["entries"]
    assert entries[0]["kind"] == "ledger-begun" and isinstance(entries[0]["body"], dict)
    rounds = answer(capsys, "ledger", "show", run, "--kind", "round", "--last", "2")["entries"]
    assert [entry["kind"] for entry in rounds] == ["round", "round"]
    assert main(["ledger", "show", run, "--kind", "nothing"]) == 0
    assert "no such entry" in capsys.readouterr().out
    assert main(["ledger", "show", run]) == 0
    assert "ledger-begun" in capsys.readouterr().out


def test_a_ledger_that_holds_and_one_that_does_not(capsys: pytest.CaptureFixture[str], run: str) -> None:
    assert answer(capsys, "ledger", "verify", run)["holds"] is True
    with sqlite3.connect(Path(run) / "ledger.sqlite") as database:
        database.execute("DROP TRIGGER entries_no_delete")
        database.execute("DELETE FROM entries WHERE number = 7")
    found = answer(capsys, "ledger", "verify", run, status=1)
    assert found["holds"] is False
    assert {"kind": "deleted", "sentence": "entry 7 is missing: deleted from the ledger."} in found["problems"]
    assert main(["ledger", "verify", run, "--no-models"]) == 1
    captured = capsys.readouterr()
    assert "deleted: entry 7 is missing" in captured.out and "The ledger does not hold." in captured.out
    assert captured.err.splitlines()[-1] == "Error: entry 7 is missing: deleted from the ledger."


def test_a_copy_can_be_checked_by_anybody(capsys: pytest.CaptureFixture[str], run: str, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    answer(capsys, "ledger", "export", run, "--out", str(out))
    assert {path.name for path in out.iterdir()} == {"ledger.jsonl", "heads.json", "keys.json"}
    entries = [Entry.of(json.loads(line)) for line in (out / "ledger.jsonl").read_text().splitlines()]
    assert verify_chain(entries) == [] and len(entries) > 10
    assert len(json.loads((out / "heads.json").read_text())["heads"]) == 3
    assert "is not empty" in answer(capsys, "ledger", "export", run, "--out", str(out), status=1)["error"]


def test_lineage_names_the_earliest_clean_model(capsys: pytest.CaptureFixture[str], run: str) -> None:
    found = answer(capsys, "ledger", "lineage", run)
    by_name = {model["what"]: model for model in found["models"]}
    assert by_name["round 2 of main"]["descends_from"] == ["client-0-1"]
    assert by_name["round 2 of main"]["clients"] == [0, 1, 2] and by_name["start of main"]["clients"] == []
    clean = found["earliest_clean"]["client-0-1"]
    assert clean == Federation.open(run)._session().ledger.branch("main").head  # type: ignore[union-attr]
    assert answer(capsys, "ledger", "lineage", run, "--request", "client-0-1") == found
    assert "no request 'x'" in answer(capsys, "ledger", "lineage", run, "--request", "x", status=1)["error"]
    assert main(["ledger", "lineage", run]) == 0
    assert f"without the data of client-0-1: {clean[:12]}" in capsys.readouterr().out
