from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fedunlearn.engines.channel import ChannelClosed
from fedunlearn.engines.worker_pool import WorkerPool, close_pool, idle_workers, lent_pool
from fedunlearn.engines.worker_process import in_worker
from fedunlearn.errors import SettingsError


def is_alive(pid: int) -> bool:
    try:
        # A zombie has ended, and waits for its parent.
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pid: int, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_alive(pid)


def test_workers_are_started_once_and_end_with_the_pool():
    with WorkerPool() as pool:
        first = pool.at_least(1)
        both = pool.at_least(2)
        assert both[:1] == first and len(pool) == 2
        assert pool.at_least(1) == first
        pids = [worker.pid for worker in both]
        assert all(map(is_alive, pids))
    assert all(map(gone, pids))


def test_one_that_died_is_replaced():
    with WorkerPool() as pool:
        worker, other = pool.at_least(2)
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(ChannelClosed):
            while True:
                worker.post.receive()
        fresh, same = pool.at_least(2)
        assert fresh is not worker and same is other
        arrival = None
        while arrival is None or arrival[0]["kind"] != "ready":
            arrival = fresh.post.receive()


def test_the_pool_of_the_process_is_lent_to_one_at_a_time():
    try:
        with lent_pool() as pool:
            (worker,) = pool.at_least(1)
            assert idle_workers() == 0
            seen = []

            def other():
                with lent_pool() as another:
                    seen.append((another is pool, another.at_least(1)[0].pid))

            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
            ((same, pid),) = seen
            assert not same and pid != worker.pid
            # It was started for that thread alone.
            assert gone(pid)
        assert idle_workers() == 1
        with lent_pool() as pool:
            assert pool.at_least(1) == [worker]
    finally:
        close_pool()
    assert gone(worker.pid) and idle_workers() == 0


def test_a_negative_number_is_refused():
    with pytest.raises(SettingsError, match="0 or more"):
        WorkerPool(-1)


SCRIPT = """
import os, signal, sys, time
from fedunlearn.engines.worker_pool import lent_pool, WorkerPool

if __name__ != "__main__":
    raise SystemExit("the script was imported again")
with lent_pool() as pool:
    print(*(worker.pid for worker in pool.at_least(2)), flush=True)
    for worker in pool.at_least(2):
        worker.post.receive()
    if sys.argv[1] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if sys.argv[1] == "fork" and os.fork() == 0:
        # What a forked process does with its copy of the pool is nothing to its parent.
        with lent_pool() as own:
            assert len(own) == 0
        sys.exit(0)
    if sys.argv[1] == "fork":
        os.wait()
        for worker in pool.at_least(2):
            worker.post.send({"kind": "job", "function": "os:getcwd", "job": {}, "imports": []})
            assert worker.post.receive()[0]["kind"] == "raised"
"""


@pytest.mark.parametrize("how", ["return", "kill", "fork"])
def test_workers_end_with_their_parent_however_it_ends(tmp_path, how):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script, how], capture_output=True, text=True, timeout=60)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2, done.stderr
    assert done.returncode == (-signal.SIGKILL if how == "kill" else 0), done.stderr
    assert all(map(gone, pids))


def test_this_is_no_worker():
    assert not in_worker()
