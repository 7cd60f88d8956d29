"""One job at a time in a run folder, even between processes; a killed holder frees it."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedunlearn.errors import RunFolderError
from fedunlearn.files import told_as_sentence

_POLL_SECONDS = 0.05

# A forked worker inherits the lock's descriptor and, outliving a killed parent, would keep the folder locked.
_held: set[int] = set()


def _close_in_child() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)


class FolderLock:
    """An exclusive lock on a file; the same thread may enter it again, nobody else may."""

    def __init__(self, path: Path) -> None:
        """Lock on `path`, which is made if it is not there and stays afterwards."""
        self._path = path
        self._own = threading.RLock()
        self._depth = 0
        self._descriptor = -1

    @contextmanager
    def held(self, doing: str, wait: float) -> Iterator[None]:
        """Hold the lock in the block; `doing` tells others why, `wait` is how many seconds to wait for it.

        Raises:
            RunFolderError: somebody else held it all that time; the sentence names the process.
        """
        if not self._own.acquire(timeout=max(wait, 0)):
            raise self._in_use(wait)
        try:
            if self._depth == 0:
                self._descriptor = self._acquire(doing, wait)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0 and self._descriptor in _held:
                    _held.discard(self._descriptor)
                    os.close(self._descriptor)
        finally:
            self._own.release()

    def _acquire(self, doing: str, wait: float) -> int:
        deadline = time.monotonic() + wait
        with told_as_sentence(self._path, "locked"):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                while not _try_lock(descriptor):
                    if time.monotonic() >= deadline:
                        raise self._in_use(wait)
                    time.sleep(_POLL_SECONDS)
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} ({doing})".encode())
            except BaseException:
                # Ctrl-C while waiting, too, must not leave the file open.
                os.close(descriptor)
                raise
        _held.add(descriptor)
        return descriptor

    def _in_use(self, wait: float) -> RunFolderError:
        with told_as_sentence(self._path, "read"):
            holder = self._path.read_text(errors="replace") or "another process"
        return RunFolderError(
            f"the run folder {self._path.parent} is in use by {holder}, and still was after {wait:g} s: wait "
            f"until that has ended, or stop it, then try again."
        )


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True
