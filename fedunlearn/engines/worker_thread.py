"""A thread that runs calls one after the other and can be left behind when one of them takes too long."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Overdue(Exception):
    """A call had not returned when its time was over; `thread` is still busy with it.

    Attributes:
        results: what the calls before it returned.
    """

    def __init__(self, timeout: float, thread: threading.Thread, results: Sequence[object] = ()) -> None:
        super().__init__(f"the call did not return within {timeout:g} s")
        self.timeout = timeout
        self.thread = thread
        self.results = results


class _Calls(Generic[T]):
    """Calls that are handed to the thread together, and how far it has come.

    Whoever waits for them leaves them between two calls or in one, never while one ends: each is made once at most,
    and what is among `results` then stays all there is.
    """

    def __init__(self, functions: Sequence[Callable[[], T]]) -> None:
        self.functions = functions
        self.results: list[T] = []
        self.error: BaseException | None = None
        self.begun = time.monotonic()
        self._left = False
        self._lock = threading.Lock()

    def run(self) -> None:
        """Run them until one raises, or nobody waits any more."""
        try:
            for function in self.functions:
                with self._lock:
                    if self._left:
                        return
                    self.begun = time.monotonic()
                result = function()
                with self._lock:
                    if self._left:
                        return
                    self.results.append(result)
                    self.begun = time.monotonic()
        except BaseException as error:
            self.error = error

    def leave(self, timeout: float = 0.0) -> bool:
        """Wait no more if the present call has taken `timeout` seconds; whether that is so. Not once all have ended."""
        with self._lock:
            overdue = time.monotonic() - self.begun >= timeout
            self._left = overdue and len(self.results) < len(self.functions)
            return self._left


class WorkerThread:
    """Runs calls one after the other in one daemon thread; a thread left behind is replaced."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[_Calls | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, function: Callable[[], T], timeout: float) -> T:
        """Return what `function()` returns, or raise what it raises.

        Raises:
            Overdue: it did not return within `timeout` seconds; its thread is left to itself.
        """
        return self.run_all([function], timeout)[0]

    def run_all(self, functions: Sequence[Callable[[], T]], timeout: float) -> list[T]:
        """Return what each of `functions` returns, or raise what the first raises that does.

        To hand one call to another thread takes longer than many a call.

        Raises:
            Overdue: one did not return within `timeout` seconds; its thread is left to itself, and those after it are
                not called.
        """
        if self._thread is None:
            self._calls, self._done = queue.SimpleQueue(), queue.SimpleQueue()
            serve = (self._calls, self._done)
            self._thread = threading.Thread(target=_serve, args=serve, name=self._name, daemon=True)
            self._thread.start()
        calls = _Calls(functions)
        # Queues in C hand calls over in half the time that an Event takes.
        self._calls.put(calls)
        try:
            finished = self._wait(calls, timeout)
        except BaseException:
            # After Ctrl-C the next call must not queue behind these.
            calls.leave()
            self._abandon()
            raise
        if not finished:
            raise Overdue(timeout, self._abandon(), tuple(calls.results))
        if calls.error is not None:
            raise calls.error
        return calls.results

    def close(self) -> None:
        """Let the thread end after its current call."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread = None

    def _wait(self, calls: _Calls, timeout: float) -> bool:
        """Whether the calls ended, each within `timeout` seconds; otherwise they are left."""
        while True:
            try:
                self._done.get(timeout=max(0.0, calls.begun + timeout - time.monotonic()))
            except queue.Empty:
                if calls.leave(timeout):
                    return False
            else:
                return True

    def _abandon(self) -> threading.Thread:
        # Python has no safe way to end a busy thread: it is a daemon, and ends when its call returns.
        thread, self._thread = self._thread, None
        assert thread is not None
        self._calls.put(None)
        return thread


def _serve(calls: queue.SimpleQueue[_Calls | None], done: queue.SimpleQueue[None]) -> None:
    while (given := calls.get()) is not None:
        given.run()
        # Holding on to calls or results would keep arrays alive until the next ones.
        del given
        done.put(None)
