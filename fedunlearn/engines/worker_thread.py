"""A thread that runs one call at a time and can be left behind when a call takes too long."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Overdue(Exception):
    """The call had not returned when its time was over; `thread` is still busy with it."""

    def __init__(self, timeout: float, thread: threading.Thread) -> None:
        super().__init__(f"the call did not return within {timeout:g} s")
        self.timeout = timeout
        self.thread = thread


class _Call:
    def __init__(self, function: Callable[[], object]) -> None:
        self.function = function
        self.done = threading.Event()
        self.result: object = None
        self.error: BaseException | None = None


class WorkerThread:
    """Runs calls one after the other in one daemon thread; a thread left behind is replaced."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, function: Callable[[], T], timeout: float) -> T:
        """Return what `function()` returns, or raise what it raises.

        Raises:
            Overdue: it did not return within `timeout` seconds; its thread is left to itself.
        """
        if self._thread is None:
            self._calls = queue.SimpleQueue()
            self._thread = threading.Thread(target=_serve, args=(self._calls,), name=self._name, daemon=True)
            self._thread.start()
        call = _Call(function)
        self._calls.put(call)
        finished = False
        try:
            finished = call.done.wait(timeout)
        finally:
            # Also after Ctrl-C: the next call must not queue behind this one.
            abandoned = None if finished else self._abandon()
        if abandoned is not None:
            raise Overdue(timeout, abandoned)
        if call.error is not None:
            raise call.error
        return call.result  # type: ignore[return-value]

    def close(self) -> None:
        """Let the thread end after its current call."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread = None

    def _abandon(self) -> threading.Thread:
        # Python has no safe way to end a busy thread: it is a daemon, and ends when its call returns.
        thread, self._thread = self._thread, None
        assert thread is not None
        self._calls.put(None)
        return thread


def _serve(calls: queue.SimpleQueue[_Call | None]) -> None:
    while (call := calls.get()) is not None:
        try:
            call.result = call.function()
        except BaseException as error:
            call.error = error
        call.done.set()
        # Holding the last call would keep its arrays alive until the next one.
        del call
