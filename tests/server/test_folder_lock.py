from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fedunlearn.errors import RunFolderError
from fedunlearn.server.folder_lock import FolderLock

HOLD = """
import os, sys, time
from pathlib import Path
from fedunlearn.server.folder_lock import FolderLock
with FolderLock(Path(sys.argv[1])).held("unlearn", 0):
    if sys.argv[2] == "fork" and os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(30)
        os._exit(0)
    if sys.argv[2] != "fork":
        print(os.getpid(), flush=True)
    time.sleep(30)
"""


def test_second_process_is_told_who_holds_it_and_gets_it_when_that_is_killed(tmp_path: Path, start_script: Any) -> None:
    path = tmp_path / "run.lock"
    process = start_script(HOLD, path, "alone")
    holder = int(process.stdout.readline())
    lock = FolderLock(path)
    began = time.monotonic()
    with (
        pytest.raises(RunFolderError, match=rf"in use by process {holder} \(unlearn\), and still was after 0.2 s"),
        lock.held("train", 0.2),
    ):
        pass
    assert 0.2 <= time.monotonic() - began < 2
    process.kill()
    process.wait()
    with lock.held("train", 0):
        assert path.read_text() == f"process {os.getpid()} (train)"


def test_forked_worker_that_outlives_its_killed_parent_holds_nothing(tmp_path: Path, start_script: Any) -> None:
    process = start_script(HOLD, tmp_path / "run.lock", "fork")
    worker = int(process.stdout.readline())
    try:
        process.kill()
        process.wait()
        os.kill(worker, 0)  # it is alive
        with FolderLock(tmp_path / "run.lock").held("train", 0):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


def test_waits_until_it_is_free(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path / "run.lock"), FolderLock(tmp_path / "run.lock")
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with first.held("train", 0):
            entered.set()
            leave.wait(5)

    holder = threading.Thread(target=hold)
    holder.start()
    assert entered.wait(5)
    with pytest.raises(RunFolderError, match="in use"), second.held("unlearn", 0):
        pass
    threading.Timer(0.1, leave.set).start()
    with second.held("unlearn", 5):
        assert leave.is_set()
    holder.join()


def test_same_lock_nests_in_its_thread_but_not_in_another(tmp_path: Path) -> None:
    lock, refused = FolderLock(tmp_path / "run.lock"), []

    def enter() -> None:
        try:
            with lock.held("unlearn", 0.05):
                pass
        except RunFolderError as error:
            refused.append(str(error))

    with lock.held("compare", 0):
        with lock.held("retrain", 0):
            pass
        other = threading.Thread(target=enter)
        other.start()
        other.join()
        with pytest.raises(RunFolderError), FolderLock(tmp_path / "run.lock").held("train", 0):
            pass
    assert "(compare)" in refused[0]
    with FolderLock(tmp_path / "run.lock").held("train", 0):
        pass


def test_free_after_an_error(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "run.lock")
    with pytest.raises(ValueError), lock.held("train", 0):
        raise ValueError
    with FolderLock(tmp_path / "run.lock").held("train", 0):
        pass
