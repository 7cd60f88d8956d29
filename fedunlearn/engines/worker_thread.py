"""A thread that runs one call at a time and can be left behind when a call takes too long."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_Result = tuple[object, BaseException | None]


class Overdue(Exception):
    """The call had not returned when its time was over; `thread` is still busy with it."""

    def __init__(self, timeout: float, thread: threading.Thread) -> None:
        super().__init__(f"the call did not return within {timeout:g} s")
        self.timeout = timeout
        self.thread = thread


class WorkerThread:
    """Runs calls one after the other in one daemon thread; a thread left behind is replaced."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[_Result] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, function: Callable[[], T], timeout: float) -> T:
        """Return what `function()` returns, or raise what it raises.

        Raises:
            Overdue: it did not return within `timeout` seconds; its thread is left to itself.
        """
        if self._thread is None:
            self._calls, self._results = queue.SimpleQueue(), queue.SimpleQueue()
            serve = (self._calls, self._results)
            self._thread = threading.Thread(target=_serve, args=serve, name=self._name, daemon=True)
            self._thread.start()
        # Queues in C hand a call over in half the time that an Event takes.
        self._calls.put(function)
        try:
            result, error = self._results.get(timeout=timeout)
        except queue.Empty:
            raise Overdue(timeout, self._abandon()) from None
        except BaseException:
            # After Ctrl-C the next call must not queue behind this one.
            self._abandon()
            raise
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

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


def _serve(calls: queue.SimpleQueue[Callable[[], object] | None], results: queue.SimpleQueue[_Result]) -> None:
    while (call := calls.get()) is not None:
        try:
            result: _Result = call(), None
        except BaseException as error:
            result = None, error
        # Holding on to a call or its result would keep arrays alive until the next one.
        del call
        results.put(result)
        del result
