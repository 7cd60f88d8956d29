from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from fedunlearn.config import FederationSettings
from fedunlearn.errors import RunFolderError
from fedunlearn.server.run_folder import FORMAT, RunFolder

SETTINGS = FederationSettings(clients=4, partition="iid", seed=7, network="lenet")


def test_created_folder_is_opened_with_its_settings(tmp_path: Path) -> None:
    made = RunFolder.create(tmp_path / "deep" / "run", SETTINGS)
    opened = RunFolder.open(tmp_path / "deep" / "run")
    assert opened.settings == SETTINGS
    assert (opened.path, opened.created) == (made.path, made.created)
    assert RunFolder.exists(opened.path)
    assert opened.models.is_dir() and opened.clients.is_dir()
    assert opened.client(3) == opened.path / "clients" / "3"
    assert opened.client(3).is_dir()


def test_what_clients_prepare_for_is_settled_when_the_run_is_made(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, SETTINGS.model_copy(update={"prepare_for": "quickdrop,fedau"}))
    assert RunFolder.of(tmp_path, SETTINGS).settings.prepared_methods == ("quickdrop", "fedau")
    RunFolder.of(tmp_path, SETTINGS.model_copy(update={"prepare_for": "fedau"}))
    RunFolder.create(tmp_path / "other", SETTINGS)
    with pytest.raises(RunFolderError, match="prepared nothing for fedau, which"):
        RunFolder.of(tmp_path / "other", SETTINGS.model_copy(update={"prepare_for": "fedau"}))


def test_paths_do_not_depend_on_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = RunFolder.create("run", SETTINGS)
    monkeypatch.chdir("/")
    assert run.client(0) == tmp_path / "run" / "clients" / "0"
    assert run.ledger_url == f"sqlite:///{tmp_path}/run/ledger.sqlite"


def test_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, SETTINGS)
    with pytest.raises(RunFolderError, match="already holds a run: open it, or choose another folder"):
        RunFolder.create(tmp_path, SETTINGS)
    assert RunFolder.open(tmp_path).settings == SETTINGS


def test_creation_that_was_killed_half_way_can_be_repeated(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, SETTINGS)
    (run.path / "run.json").unlink()
    assert not RunFolder.exists(tmp_path)
    assert RunFolder.create(tmp_path, SETTINGS).settings == SETTINGS


@pytest.mark.parametrize("name", ["figures/paper.png", "models/mine.safetensors", "report.html", "ledger.sqlite"])
def test_no_run_is_made_where_it_would_write_over_files_of_others(tmp_path: Path, name: str) -> None:
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(RunFolderError, match=f"holds '{name.split('/')[0]}' and no run.json, .* new or empty"):
        RunFolder.create(tmp_path, SETTINGS)
    assert mine.read_text() == "mine" and not RunFolder.exists(tmp_path)


def test_a_run_may_lie_beside_files_that_it_never_touches(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text("mine")
    (tmp_path / "figures").mkdir()
    assert RunFolder.create(tmp_path, SETTINGS).settings == SETTINGS


def test_missing_run_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"holds no run .* make one with `fedunlearn simulate --out"):
        RunFolder.open(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_newer_format_is_refused(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, SETTINGS)
    content = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**content, "format": FORMAT + 1}))
    with pytest.raises(RunFolderError, match=rf"newer version \(format {FORMAT + 1}; this one reads up to "):
        RunFolder.open(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": "1"}',
        '{"format": 1}',
        '{"format": 0}',
        '{"format": 1, "settings": 3, "created": ""}',
        '{"format": 1, "settings": {"clients": -1}, "created": ""}',
    ],
)
def test_damaged_run_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunFolderError, match="is damaged"):
        RunFolder.open(tmp_path)


def test_file_instead_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(RunFolderError):
        RunFolder.create(tmp_path / "run", SETTINGS)
    with pytest.raises(RunFolderError, match="holds no run"):
        RunFolder.open(tmp_path / "run")


def test_one_job_at_a_time(tmp_path: Path) -> None:
    first = RunFolder.create(tmp_path, SETTINGS)
    second = RunFolder.open(tmp_path)
    with first.locked("train"):
        sentence = rf"in use by process {os.getpid()} \(train\)"
        with pytest.raises(RunFolderError, match=sentence), second.locked("unlearn", wait=0):
            pass
    with second.locked("unlearn", wait=0):
        pass


def test_tidy_removes_old_leftovers_everywhere(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, SETTINGS)
    long_ago = time.time() - 7200
    leftovers = [run.path / ".run.json.1.part", run.models / ".a.2.part", run.client(0) / ".key.pem.3.part"]
    for leftover in leftovers:
        leftover.write_text("")
        os.utime(leftover, (long_ago, long_ago))
    assert run.tidy() == 3
    assert RunFolder.open(tmp_path).settings == SETTINGS


def test_of_makes_a_run_or_goes_on_with_it(tmp_path: Path) -> None:
    settings = FederationSettings(seed=3)
    made = RunFolder.of(tmp_path / "run", settings)
    longer = settings.model_copy(update={"rounds": 99, "engine": "ray", "timeout": 1.0})
    again = RunFolder.of(tmp_path / "run", longer)
    assert (again.path, again.created, again.settings) == (made.path, made.created, longer)
    with pytest.raises(RunFolderError, match=r"other settings \(clients: 10 there, 4 asked, seed: 3 there, 5 asked\)"):
        RunFolder.of(tmp_path / "run", FederationSettings(clients=4, seed=5))
