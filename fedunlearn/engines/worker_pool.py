"""Worker processes that are started once and used by one job after the other."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from fedunlearn.engines.blocks import Writer
from fedunlearn.engines.channel import ChannelClosed
from fedunlearn.engines.worker_process import WorkerProcess
from fedunlearn.errors import SettingsError


def cores() -> int:
    """How many cores this process may use."""
    # Not on every system can a process be confined to some of the cores.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class WorkerPool:
    """Some worker processes. Use it as a context, or `close` it.

    Args:
        size: workers to start now (>= 0); `at_least` starts more.

    Attributes:
        writer: the blocks that this process writes for the workers.
        homes: client -> the worker that served it last, by its place in the pool.
    """

    def __init__(self, size: int = 0) -> None:
        if size < 0:
            raise SettingsError(f"workers is {size}: give 0 or more")
        self.writer = Writer()
        self.homes: dict[Hashable, int] = {}
        self._workers = [WorkerProcess(self.writer) for _ in range(size)]

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Workers that were started."""
        return len(self._workers)

    def at_least(self, size: int) -> list[WorkerProcess]:
        """The first `size` workers, told where this process is now; those that lack or died are started."""
        for worker in self._workers[:size]:
            try:
                worker.surround()
            except ChannelClosed:
                self.replace(worker)
        while len(self._workers) < size:
            self._workers.append(WorkerProcess(self.writer))
        return self._workers[:size]

    def replace(self, worker: WorkerProcess) -> WorkerProcess:
        """End a worker of this pool, if it has not ended yet, and return the fresh one in its place."""
        worker.end()
        fresh = self._workers[self._workers.index(worker)] = WorkerProcess(self.writer)
        return fresh

    def end(self, workers: Iterable[WorkerProcess]) -> None:
        """End these workers; `at_least` starts others in their place."""
        for worker in workers:
            worker.end()

    def close(self) -> None:
        """End all workers."""
        self.end(self._workers)
        self._workers.clear()

    def forget(self) -> None:
        """In a forked process: let go of workers that are another's."""
        for worker in self._workers:
            worker.forget()
        self._workers.clear()


class _Lender:
    """The workers of this process, lent to one user at a time.

    The only state of a process here, and for one reason: starting workers takes seconds, and one federation after the
    other, in whatever code, shall find them started. They hold nothing but caches.
    """

    def __init__(self) -> None:
        self._pool = WorkerPool()
        self._lock = threading.Lock()

    @contextmanager
    def lent(self) -> Iterator[WorkerPool]:
        # A process that forks in the block gets a lender with another lock; this one is the one that was taken.
        lock = self._lock
        if lock.acquire(blocking=False):
            try:
                yield self._pool
            finally:
                lock.release()
        else:
            # Another thread's federation has them.
            with WorkerPool() as own:
                yield own

    def idle(self) -> int:
        return 0 if self._lock.locked() else len(self._pool)

    def close(self) -> None:
        self._pool.close()

    def forget(self) -> None:
        self._pool.forget()
        self.__init__()  # type: ignore[misc]


_lender = _Lender()
atexit.register(_lender.close)
# A forked process must neither use its parent's workers nor end them.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_lender.forget)


def lent_pool() -> AbstractContextManager[WorkerPool]:
    """A context with the pool of this process: no workers yet, or those that an earlier user started.

    Whoever leaves workers at work, an exception included, ends them first.
    """
    return _lender.lent()


def idle_workers() -> int:
    """How many workers of this process run and are lent to nobody."""
    return _lender.idle()


def close_pool() -> None:
    """End the workers of this process, which otherwise end with it; the next user starts new ones."""
    _lender.close()
