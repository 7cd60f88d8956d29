from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fedunlearn.cli import main
from fedunlearn.federation import Federation


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    folder = shutil.copytree(trained_run, tmp_path / "run")
    federation = Federation.open(folder)
    federation.unlearn(federation.request_deletion(client=0), method="fine-tune", rounds=1)
    return folder


def test_a_quick_audit_as_json_and_as_a_table(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(run), "--audit", "quick", "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "inconclusive" and document["band"]["size"] == 0
    assert document == json.loads((run / "audit" / "audit-client-0-1.json").read_text())
    assert main(["audit", str(run), "--request", "client-0-1", "--audit", "quick"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Inconclusive: there is no retrained model" in shown and "forget_loss" in shown


def test_the_status_is_0_whatever_the_verdict(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(run), "--band", "2", "--processes", "0", "--no-restore", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["band"]["size"] == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["audit"], "name the folder of the run"),
        (["audit", "RUN", "--self-test"], "leave RUN, --request, --audit and --method out"),
        (["audit", "--self-test", "--audit", "full"], "leave RUN, --request, --audit and --method out"),
        (["audit", "RUN", "--models", "3"], "belong to --self-test"),
        (["audit", "RUN", "--audit", "slow"], "expected one of quick, standard, full"),
        (["audit", "RUN", "--audit", "quick", "--band", "3"], "a quick audit makes no band"),
        (["audit", "--self-test", "--models", "8", "--band", "8"], "at least one more model"),
    ],
)
def test_a_wrong_argument_is_a_sentence(
    run: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    assert main([str(run) if word == "RUN" else word for word in words] + ["--json"]) == 2
    assert expected in json.loads(capsys.readouterr().out)["error"]


def test_what_was_not_served_cannot_be_audited(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(trained_run, tmp_path / "run")
    assert main(["audit", str(folder), "--audit", "quick", "--json"]) == 1
    assert "has been served yet" in json.loads(capsys.readouterr().out)["error"]
