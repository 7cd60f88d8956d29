"""How tables came about: the environment, and which run belongs to which."""

from __future__ import annotations

import platform
from pathlib import Path

from fedunlearn.reports.provenance import environment, provenance, source_digest


def test_the_environment_names_versions_python_and_machine() -> None:
    found = environment()
    assert found["packages"]["torch"] and found["packages"]["flwr"].startswith("1.")
    assert found["python"] == platform.python_version()
    assert found["cpus"] >= 1
    assert len(found["source"]) == 64


def test_the_sources_digest_changes_with_any_file_and_with_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "one.py").write_text("x = 1\n")
    (tmp_path / "two.py").write_text("y = 2\n")
    before = source_digest(tmp_path)
    (tmp_path / "notes.txt").write_text("no Python")
    assert source_digest(tmp_path) == before
    (tmp_path / "part" / "one.py").write_text("x = 3\n")
    changed = source_digest(tmp_path)
    assert changed != before
    (tmp_path / "part" / "one.py").rename(tmp_path / "one.py")
    assert source_digest(tmp_path) != changed


def test_runs_are_put_to_the_environment_that_they_were_made_in() -> None:
    here, there = {"python": "3.11", "packages": {}}, {"python": "3.12", "packages": {}}
    documents = [
        {"cell": "a", "seed": 0, "environment": here, "models": {"original": {"digest": "11"}}},
        {"cell": "a", "seed": 1, "environment": there, "models": {}},
        {"cell": "a", "seed": 2, "environment": here, "models": {}},
        {"cell": "", "seed": 3, "models": {}},
    ]
    found = provenance(documents, "2026-01-02")
    assert [(one["python"], one["runs"]) for one in found["environments"]] == [
        ("3.11", ["a seed 0", "a seed 2"]),
        ("3.12", ["a seed 1"]),
    ]
    assert found["runs"][0]["digests"] == {"original": "11"}
    assert found["date"] == "2026-01-02"
    assert "runs" not in here
