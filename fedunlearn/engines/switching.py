"""`workers="auto"`: clients run in this process until starting workers has been earned."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator

from flwr.app import Message

from fedunlearn.engines.flower_compat import ErrorCode
from fedunlearn.engines.inline import InlineClients
from fedunlearn.engines.nodes import Call
from fedunlearn.engines.pooled import PooledClients
from fedunlearn.engines.worker_pool import cores
from fedunlearn.errors import FedunlearnError

START_SECONDS = 4.0
"""About what starting workers costs: an interpreter, Flower, torch and the data in each of them."""
WORTH_SECONDS = 0.002
"""A client that takes less is served in this process as fast as its message goes to another one."""

log = logging.getLogger("fedunlearn.engines")


class SwitchingClients:
    """Runs clients in this process first, and in workers once they have taken as long as starting workers costs.

    That is the rule for renting skis: whenever the run ends, it took at most twice as long as the better choice
    would have. Workers start while this process goes on, and take over between two calls. Results are the same.

    Args:
        inline: the clients in this process.
        start: starts workers and returns the clients in them.
        started: whether the workers run already: they cost nothing then.
    """

    def __init__(self, inline: InlineClients, start: Callable[[], PooledClients], started: bool) -> None:
        self._inline = inline
        self._start = start
        self._begin_at = 0.0 if started else START_SECONDS
        self._pooled: PooledClients | None = None
        self._fit: bool | None = None

    def answers(self, calls: Iterator[Call]) -> Iterator[Message]:
        """One reply a call, in their order."""
        while self._fit is None:
            yield from self._inline.answers(calls, self._is_ready)
            call = next(calls, None)
            if call is None:
                return
            yield self._tried(call)
        yield from (self._pooled if self._fit and self._pooled is not None else self._inline).answers(calls)

    def close(self) -> None:
        """End what was started."""
        self._inline.close()
        if self._pooled is not None:
            self._pooled.close()

    def _is_ready(self) -> bool:
        """Whether this process is to run no further client."""
        if self._pooled is None:
            spent, answered = self._inline.seconds, self._inline.answered
            if not answered or spent < self._begin_at or spent < answered * WORTH_SECONDS:
                return False
        try:
            if self._pooled is None:
                self._pooled = self._start()
            return self._pooled.ready
        except FedunlearnError as error:
            self._stay(str(error))
            return True

    def _tried(self, call: Call) -> Message:
        """The reply to the first call that workers get: one that fails only there shows that they are not fit for it.

        A task, say, that a script registered with itself is not known in a process that never ran the script.
        """
        try:
            assert self._pooled is not None
            (reply,) = self._pooled.answers(iter((call,)))
        except FedunlearnError as error:
            self._stay(str(error))
            return self._here(call)
        if reply.has_content():
            self._fit = True
            return reply
        if reply.error.code != ErrorCode.CLIENT_APP_RAISED_EXCEPTION:
            return reply
        again = self._here(call)
        if again.has_content():
            self._stay(str(reply.error.reason).partition("\n")[0])
        return again

    def _here(self, call: Call) -> Message:
        (reply,) = self._inline.answers(iter((call,)))
        return reply

    def _stay(self, why: str) -> None:
        log.warning("the clients stay in this process, on one core, for a worker process cannot run them: %s", why)
        self._fit = False


def workers_worth(clients: int) -> int:
    """How many workers to start where nobody said: one a core, as far as there are clients and memory for them."""
    return max(1, min(cores(), clients, _fitting_processes()))


def _fitting_processes() -> int:
    """How many processes of this one's size fit into the memory that is free; many where nobody can tell."""
    try:
        with open("/proc/meminfo") as report:
            free = next(int(line.split()[1]) * 1024 for line in report if line.startswith("MemAvailable:"))
        with open("/proc/self/statm") as report:
            own = int(report.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, StopIteration, ValueError):
        return cores()
    return free // own
