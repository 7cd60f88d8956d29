from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedunlearn.cli import main
from fedunlearn.federation import Federation


def answer(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> Any:
    """The JSON document of a command."""
    assert main([*words, "--json"]) == status, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def run(audited: Federation) -> str:
    return str(audited.folder)


@pytest.mark.parametrize("command", ["issue", "verify", "show", "rotate-key"])
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main(["certificate", command, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_issue_verify_show(capsys: pytest.CaptureFixture[str], run: str) -> None:
    issued = answer(capsys, "certificate", "issue", run)
    bundle = issued["bundle"]
    found = answer(capsys, "certificate", "verify", bundle, "--key", issued["public_key"])
    assert found["holds"] and found["verdict"] == "inconclusive" and found["requests"] == "client-0-1"
    head = str(Path(run) / "clients" / "1" / "heads.json")
    assert answer(capsys, "certificate", "verify", bundle, "--heads", head)["heads"] > found["heads"]
    mistyped = answer(capsys, "certificate", "verify", bundle, "--heads", "no-such.json", status=2)
    assert "'no-such.json' does not exist" in mistyped["error"] and "holds" not in mistyped
    whole = answer(capsys, "certificate", "show", bundle)
    assert whole == json.loads((Path(bundle) / "certificate.json").read_text())
    assert main(["certificate", "show", f"{bundle}/certificate.json"]) == 0
    shown = capsys.readouterr().out
    assert "What this certificate does not cover" in shown and "INCONCLUSIVE" in shown


def test_a_bundle_that_was_tampered_with_fails(capsys: pytest.CaptureFixture[str], run: str) -> None:
    bundle = Path(answer(capsys, "certificate", "issue", run)["bundle"])
    path = bundle / "certificate.json"
    path.write_text(path.read_text().replace('"rounds":1', '"rounds":2'))
    found = answer(capsys, "certificate", "verify", str(bundle), status=1)
    assert found["holds"] is False
    assert {"changed-file", "signature", "certificate"} <= {problem["kind"] for problem in found["problems"]}
    assert main(["certificate", "verify", str(bundle)]) == 1
    captured = capsys.readouterr()
    assert "The certificate does not hold." in captured.out
    assert captured.err.splitlines()[-1].startswith("Error: certificate.json is not the file")


def test_a_new_key_with_a_password(
    capsys: pytest.CaptureFixture[str], run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = tmp_path / "password"
    password.write_text("open sesame\n")
    password.chmod(0o600)
    monkeypatch.delenv("FEDUNLEARN_KEY_PASSWORD", raising=False)
    monkeypatch.delenv("FEDUNLEARN_KEY_PASSWORD_FILE", raising=False)
    public = answer(capsys, "certificate", "rotate-key", run, "--password-file", str(password))["public_key"]
    assert "protected by a password" in answer(capsys, "certificate", "issue", run, status=1)["error"]
    monkeypatch.setenv("FEDUNLEARN_KEY_PASSWORD_FILE", str(password))
    assert answer(capsys, "certificate", "issue", run)["public_key"] == public
    assert "sesame" not in "".join(path.read_text() for path in Path(run).glob("certificates/*/*"))


@pytest.mark.parametrize(
    ("words", "said", "status"),
    [
        (["verify", "nowhere"], "is no evidence bundle", 1),
        (["show", "nowhere"], "cannot be read", 1),
        (["rotate-key", "RUN", "--password", "--password-file", "x"], "not both", 2),
    ],
)
def test_mistakes_are_sentences(
    capsys: pytest.CaptureFixture[str], run: str, words: list[str], said: str, status: int
) -> None:
    named = [run if word == "RUN" else word for word in words]
    assert said in answer(capsys, "certificate", *named, status=status)["error"]
