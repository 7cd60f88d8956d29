"""One contender's process: run it, read its answer, watch the memory of it and all its children."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROC = Path("/proc")
POLL_SECONDS = 0.25


class ContenderFailed(Exception):
    """The process ended without an answer; the message is its last line."""


def measure(command: Sequence[str], environment: Mapping[str, str], timeout: float) -> dict[str, Any]:
    """What the process answered, with "peak": the most memory (proportional set size, bytes) of it and its children.

    Raises:
        ContenderFailed: it ended without an answer, or took longer than `timeout` seconds.
    """
    process = subprocess.Popen(
        command,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    peak = [0]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(POLL_SECONDS):
            peak[0] = max(peak[0], tree_memory(process.pid))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise ContenderFailed(f"took longer than {timeout:g} s") from None
    finally:
        over.set()
        watcher.join()
    for line in reversed(out.splitlines()):
        if line.startswith('{"rounds"'):
            return {**json.loads(line), "peak": peak[0]}
    last = (err.strip() or out.strip() or "no output").splitlines()[-1]
    raise ContenderFailed(last[:200])


def tree_memory(pid: int) -> int:
    """Proportional set size in bytes of a process and all its descendants; 0 when it is gone."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            parent = _parent(entry)
            if parent is not None:
                children.setdefault(parent, []).append(int(entry.name))
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        total += _proportional(PROC / str(one))
        waiting += children.get(one, [])
    return total


def _parent(entry: Path) -> int | None:
    try:
        # The command's name, in brackets, may hold blanks.
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return None  # it ended meanwhile


def _proportional(entry: Path) -> int:
    try:
        for line in (entry / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return 0  # it ended meanwhile
    return 0
