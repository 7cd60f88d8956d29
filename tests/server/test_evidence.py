from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedunlearn.errors import RunFolderError
from fedunlearn.server.evidence import (
    AUDIT,
    CERTIFICATE,
    LEDGER,
    MANIFEST,
    evidence_files,
    keys_document,
    ledger_lines,
    manifest_of,
    read_bundle,
)
from fedunlearn.server.ledger import Ledger


@pytest.fixture
def bundle(filled: Ledger, tmp_path: Path) -> Path:
    """A folder with all files of a bundle; its certificate says nothing."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    files = evidence_files(b"{}", filled.entries(), {}) | {CERTIFICATE: b"{}"}
    for name, data in {**files, MANIFEST: manifest_of(files)}.items():
        (folder / name).write_bytes(data)
    return folder


def test_what_was_written_is_read(bundle: Path, filled: Ledger) -> None:
    found = read_bundle(bundle)
    assert found.problems == () and list(found.entries) == filled.entries() and found.audit == {}
    assert keys_document(filled.entries()) == {"server": [], "clients": {"0": "key of 0"}} == found.keys


def test_entries_are_one_a_line(filled: Ledger) -> None:
    lines = ledger_lines(filled.entries()).decode().split("\n")
    assert lines.pop() == "" and [json.loads(line)["number"] for line in lines] == list(range(1, len(lines) + 1))


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        (LEDGER, b"{}\n", "edited"),
        (LEDGER, b"nonsense\n", "edited"),
        (AUDIT, b"[]", "changed-file"),
        (AUDIT, b"nonsense", "changed-file"),
        (AUDIT, b'{"a": 1, "a": 2}', "changed-file"),
        (AUDIT, b'{"a": NaN}', "changed-file"),
        ("heads.json", b'{"heads": {"client 0": [3]}}', "heads"),
        ("heads.json", b'{"heads": [3]}', "heads"),
        (MANIFEST, b"nonsense", "changed-file"),
        ("more.txt", b"", "extra-file"),
    ],
)
def test_what_cannot_be_read_is_a_problem(bundle: Path, name: str, data: bytes, kind: str) -> None:
    (bundle / name).write_bytes(data)
    assert kind in {problem.kind for problem in read_bundle(bundle).problems}


@pytest.mark.parametrize("name", [CERTIFICATE, MANIFEST, AUDIT, LEDGER])
def test_what_is_missing_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    problems = [problem.sentence for problem in read_bundle(bundle).problems if problem.kind == "missing-file"]
    assert problems == [f"{name} is missing in the bundle."]


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="is no evidence bundle"):
        read_bundle(tmp_path)
