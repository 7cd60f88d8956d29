from __future__ import annotations

import errno
import json
import os
import random
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from fedunlearn.errors import RunFolderError
from fedunlearn.files import (
    atomic_create_bytes,
    atomic_write_bytes,
    atomic_write_json,
    make_folder,
    read_json,
    remove_leftovers,
)


def test_written_json_is_read_back(tmp_path: Path) -> None:
    content = {"name": "Grüße", "numbers": [1, 2.5, None]}
    atomic_write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content


def test_writing_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    atomic_write_bytes(path, b"old and longer")
    atomic_write_bytes(path, b"new", mode=0o600)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["a"]


def test_creating_never_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a"
    assert atomic_create_bytes(path, b"first")
    assert not atomic_create_bytes(path, b"second")
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["a"]


def test_full_disk_is_one_sentence_and_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    atomic_write_bytes(path, b"old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunFolderError, match=r"no space is left to write .*a: free some space"):
        atomic_write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="cannot be written"):
        atomic_write_bytes(tmp_path / "none" / "a", b"")


def test_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(RunFolderError, match="cannot be made"):
        make_folder(tmp_path / "a")


@pytest.mark.parametrize("damage", [b"", b'{"a": ', b"\xff\xfe"])
def test_damaged_json(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "a.json").write_bytes(damage)
    with pytest.raises(RunFolderError, match="is damaged"):
        read_json(tmp_path / "a.json")


def test_only_old_leftovers_are_removed(tmp_path: Path) -> None:
    for name in (".a.1.part", ".b.2.part", "kept"):
        (tmp_path / name).write_text("")
    long_ago = time.time() - 7200
    os.utime(tmp_path / ".a.1.part", (long_ago, long_ago))
    os.utime(tmp_path / "kept", (long_ago, long_ago))
    assert remove_leftovers(tmp_path) == 1
    assert sorted(os.listdir(tmp_path)) == [".b.2.part", "kept"]


KEEP_WRITING = """
import sys
from pathlib import Path
from fedunlearn.files import atomic_write_json
turn = 0
while True:
    turn += 1
    atomic_write_json(Path(sys.argv[1]), {"turn": turn, "filling": [turn] * 20000})
    print(turn, flush=True)
"""


def test_killed_writer_leaves_a_whole_file(tmp_path: Path, start_script: Any) -> None:
    path = tmp_path / "a.json"
    draw = random.Random(0)
    for _ in range(4):
        process = start_script(KEEP_WRITING, path)
        written = 0
        for _ in range(draw.randint(1, 5)):
            written = int(process.stdout.readline())
        time.sleep(draw.uniform(0, 0.01))
        process.kill()
        process.wait()
        content = json.loads(path.read_bytes())
        assert content["turn"] >= written
        assert content["filling"] == [content["turn"]] * 20000
