"""The desks of a federation's workers: who is ready, what they send, how long to wait, who takes one's place."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from fedunlearn.engines.channel import ChannelClosed
from fedunlearn.engines.desk import Case, Desk
from fedunlearn.engines.post import Arrival
from fedunlearn.engines.worker_pool import WorkerPool
from fedunlearn.engines.worker_process import WorkerProcess
from fedunlearn.errors import FedunlearnError

_MOST_FAILED_STARTS = 3
_START_SECONDS = 300.0


class Desks:
    """One desk for each worker, in the order of their places; a fresh one when its worker was replaced.

    Args:
        pool: the workers; lent to the federation.
        size: workers to use (>= 1).
        app: the frame that tells a worker of the app.
    """

    def __init__(self, pool: WorkerPool, size: int, app: Mapping[str, Any]) -> None:
        self._pool = pool
        self._app = dict(app)
        self._failed_starts = 0
        self._poll: Any = None
        self._desks = [self._desk(place, worker) for place, worker in enumerate(pool.at_least(size))]

    def __len__(self) -> int:
        """How many there are."""
        return len(self._desks)

    def __getitem__(self, place: int) -> Desk:
        """The desk that is at a place now."""
        return self._desks[place]

    def __iter__(self) -> Iterator[Desk]:
        """The desks as they are now, whatever is replaced on the way through them."""
        return iter(tuple(self._desks))

    @property
    def homes(self) -> dict[Any, int]:
        """Which worker served a client last."""
        return self._pool.homes

    @property
    def ready(self) -> bool:
        """Whether every worker has the app. Raises FedunlearnError when it cannot be had there."""
        for desk in self:
            try:
                self.hear(desk)
            except ChannelClosed:
                self.replace(desk)
        return all(desk.opened for desk in self)

    def replace(self, desk: Desk) -> list[Case]:
        """Put a fresh worker behind a desk; the cases that the old one had.

        Raises:
            FedunlearnError: one after the other ended before it was ready.
        """
        if not desk.opened:
            self._failed_starts += 1
            if self._failed_starts >= _MOST_FAILED_STARTS:
                raise FedunlearnError(
                    "worker processes end before they are ready, see their output for the reason; "
                    "use workers=0 to run the clients in this process."
                )
        cases = desk.cleared()
        self._poll = None
        self._desks[desk.place] = self._desk(desk.place, self._pool.replace(desk.worker))
        return cases

    def end(self, desk: Desk) -> None:
        """End a worker that is at work for nobody; the next exchange puts another in its place."""
        desk.cleared()
        desk.worker.end()
        self._poll = None

    def wait(self, seconds: float | None) -> None:
        """Wait until a worker has sent something, or is gone; None: for as long as it takes."""
        if self._poll is None:
            self._poll = select.poll()
            for desk in self:
                if not desk.worker.ended:
                    self._poll.register(desk.worker.post.channel, select.POLLIN)
        # Rounded up: a poll that ends before the deadline would only be repeated.
        self._poll.poll(None if seconds is None else int(seconds * 1000) + (1 if seconds else 0))

    def hear(self, desk: Desk) -> Arrival | None:
        """The next reply that a worker has sent, if one is there.

        Raises:
            ChannelClosed: the worker is gone. FedunlearnError: the app cannot be had there.
        """
        while (arrival := desk.worker.post.poll()) is not None:
            frame, _ = arrival
            if frame["kind"] == "reply":
                return arrival
            if frame["kind"] == "opened":
                desk.opened, desk.since, self._failed_starts = True, time.monotonic(), 0
            elif frame["kind"] == "refused":
                raise FedunlearnError(
                    f"the client app cannot be had in a worker process ({frame['sentence']}): see that its module can "
                    "be imported there, or use workers=0."
                )
            elif frame["kind"] == "began":
                desk.began(frame["number"])
            elif frame["kind"] == "interrupted":
                raise KeyboardInterrupt
        return None

    def patience(self) -> float | None:
        """Seconds until a worker will have had all its time; None: there is no limit."""
        deadlines = [desk.deadline if desk.opened else desk.started + _START_SECONDS for desk in self]
        first = min((deadline for deadline in deadlines if deadline is not None), default=None)
        return None if first is None else max(0.0, first - time.monotonic())

    def overdue(self) -> Iterator[Desk]:
        """Those whose client has had its time. Raises FedunlearnError when a worker is still not ready."""
        now = time.monotonic()
        for desk in self:
            if not desk.opened and now > desk.started + _START_SECONDS:
                raise FedunlearnError(
                    f"a worker process was not ready within {_START_SECONDS:g} s: see what the client app does when it "
                    "is imported, or use workers=0."
                )
            if desk.deadline is not None and desk.deadline <= now:
                yield desk

    def _desk(self, place: int, worker: WorkerProcess) -> Desk:
        desk = Desk(place, worker)
        # Of one that is gone already, the next look at it will tell.
        with suppress(ChannelClosed):
            desk.open(self._app)
        return desk
