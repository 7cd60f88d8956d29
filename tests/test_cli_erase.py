from __future__ import annotations

import json
from typing import Any

import pytest

from fedunlearn.cli import main
from fedunlearn.federation import Federation
from fedunlearn.server.run_folder import RunFolder


def answer(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> Any:
    """The JSON document of a command."""
    assert main([*words, "--json"]) == status, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_a_dry_run_comes_first(capsys: pytest.CaptureFixture[str], audited: Federation) -> None:
    run = str(audited.folder)
    before = sorted((audited.folder / "models").iterdir())
    plan = answer(capsys, "erase", run, "--request", "client-0-1")
    assert plan["dry_run"] is True and plan["models"] and sorted((audited.folder / "models").iterdir()) == before
    assert main(["erase", run, "--request", "client-0-1"]) == 0
    shown = capsys.readouterr().out
    assert "would go" in shown and f"fedunlearn erase {run} --request client-0-1 --yes" in shown
    done = answer(capsys, "erase", run, "--request", "client-0-1", "--yes")
    assert done["finished"] is True and done["models"] == plan["models"]
    assert answer(capsys, "ledger", "verify", run)["holds"] is True
    assert main(["erase", run, "--request", "client-0-1", "--yes"]) == 0
    assert "gone: 0 files" in capsys.readouterr().out


def test_mistakes_are_sentences(capsys: pytest.CaptureFixture[str], audited: Federation) -> None:
    run = str(audited.folder)
    assert "there is no request" in answer(capsys, "erase", run, "--request", "x", status=1)["error"]
    assert main(["erase", run, "--json"]) == 2
    assert "--request" in json.loads(capsys.readouterr().out)["error"]


def test_a_second_process_is_told_who_holds_the_run(
    capsys: pytest.CaptureFixture[str], audited: Federation, start_script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = RunFolder.locked
    monkeypatch.setattr(RunFolder, "locked", lambda folder, doing, wait=0.2: locked(folder, doing, wait))
    script = """
import sys, time
from fedunlearn.server.run_folder import RunFolder
with RunFolder.open(sys.argv[1]).locked("train"):
    print("held", flush=True)
    time.sleep(60)
"""
    holder = start_script(script, audited.folder)
    assert holder.stdout.readline() == "held\n"
    said = answer(capsys, "erase", str(audited.folder), "--request", "client-0-1", "--yes", status=1)["error"]
    assert f"is in use by process {holder.pid} (train)" in said
    holder.kill()
    holder.wait()
    assert answer(capsys, "erase", str(audited.folder), "--request", "client-0-1", "--yes")["finished"] is True
