"""Clients in the worker processes of a pool."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Error, Message, MetricRecord, RecordDict

from fedunlearn.engines.answering import ClientAppSource, error_reply, overdue_sentence
from fedunlearn.engines.channel import ChannelClosed
from fedunlearn.engines.desk import Case, Desk
from fedunlearn.engines.flower_compat import ErrorCode, message_of, metadata_values, reply_metadata
from fedunlearn.engines.nodes import Call, Nodes
from fedunlearn.engines.post import Arrival
from fedunlearn.engines.publishing import Held, Publisher
from fedunlearn.engines.records import unpacked
from fedunlearn.engines.scheduling import MOST_AT_ONCE, SHORT_SECONDS, Lengths, Schedule
from fedunlearn.engines.sources import described
from fedunlearn.engines.worker_pool import WorkerPool
from fedunlearn.engines.worker_process import WorkerProcess
from fedunlearn.errors import FedunlearnError
from fedunlearn.flower_arrays import NUMPY, LiveArray, view

AHEAD_BYTES = 128 * 2**20
"""Replies that may wait for an earlier one, in bytes of their arrays."""
AHEAD_MESSAGES = 1024
"""And in number."""
_MOST_DEATHS = 6
_MOST_FAILED_STARTS = 3
_START_SECONDS = 300.0


class PooledClients:
    """Answers calls in worker processes.

    The global model is written once into memory that all workers map; updates come back the same way. A client's
    state goes with each message and comes back with the reply, so that a worker which dies takes nothing with it but
    what it was at: that message is answered once more, by another worker, and is an error only if that dies too.

    Args:
        pool: the workers; lent to these clients until they are closed.
        size: workers to use (>= 1).
        source: the app.
        nodes: the clients.
        cohort: calls that are put together where the app can answer several at once; 1: none.
        imports: modules that a worker imports before it builds the app.

    Raises:
        SettingsError: the app cannot be copied into another process.
    """

    def __init__(
        self,
        pool: WorkerPool,
        size: int,
        source: ClientAppSource,
        nodes: Nodes,
        cohort: int = 1,
        imports: Sequence[str] = (),
    ) -> None:
        self.nodes = nodes
        self.cohort = cohort
        self.lengths = Lengths()
        self.reply_bytes: dict[str, int] = {}
        self.publisher = Publisher(pool.writer)
        self._pool = pool
        self._frame = {
            "kind": "app",
            "source": described(source),
            "imports": list(imports),
            "run_config": nodes.run_config,
            "clients": nodes.clients,
        }
        self._failed_starts = 0
        self._exchange: _Exchange | None = None
        self._poll: Any = None
        self.desks = [self._desk(place, worker) for place, worker in enumerate(pool.at_least(size))]

    @property
    def ready(self) -> bool:
        """Whether every worker has the app. Raises FedunlearnError when it cannot be had there."""
        for desk in self.desks:
            try:
                self.hear(desk)
            except ChannelClosed:
                self.replace(desk)
        return all(desk.opened for desk in self.desks)

    @property
    def homes(self) -> dict[Any, int]:
        """Which worker served a client last."""
        return self._pool.homes

    def answers(self, calls: Iterator[Call]) -> Iterator[Message]:
        """One reply a call, in their order.

        Raises:
            FedunlearnError: the app cannot be had in a worker, or workers do not start.
        """
        self._exchange = exchange = _Exchange(self, calls)
        try:
            yield from exchange.replies()
        finally:
            exchange.leave()

    def close(self) -> None:
        """Leave the workers to the next federation."""
        if self._exchange is not None:
            self._exchange.leave()

    def replace(self, desk: Desk) -> list[Case]:
        """Put a fresh worker behind a desk; the cases that the old one had."""
        if not desk.opened:
            self._failed_starts += 1
            if self._failed_starts >= _MOST_FAILED_STARTS:
                raise FedunlearnError(
                    "worker processes end before they are ready, see their output for the reason; "
                    "use workers=0 to run the clients in this process."
                )
        cases = desk.cleared()
        self._poll = None
        self.desks[desk.place] = self._desk(desk.place, self._pool.replace(desk.worker))
        return cases

    def end(self, desk: Desk) -> None:
        """End a worker that is at work for nobody; the next exchange puts another in its place."""
        desk.cleared()
        desk.worker.end()
        self._poll = None

    def wait(self, milliseconds: int | None) -> None:
        """Wait until a worker has sent something, or is gone."""
        if self._poll is None:
            self._poll = select.poll()
            for desk in self.desks:
                if not desk.worker.ended:
                    self._poll.register(desk.worker.post.channel, select.POLLIN)
        self._poll.poll(milliseconds)

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

    def _desk(self, place: int, worker: WorkerProcess) -> Desk:
        desk = Desk(place, worker)
        # Of one that is gone already, the next look at it will tell.
        with suppress(ChannelClosed):
            desk.open(self._frame)
        return desk


class _Exchange:
    """The calls of one exchange, from the first that is given out to the last reply that is delivered."""

    def __init__(self, clients: PooledClients, calls: Iterator[Call]) -> None:
        self._clients = clients
        self._calls = calls
        self._more = True
        self._schedule = Schedule(len(clients.desks), clients.lengths, clients.homes)
        self._open: dict[int, Case] = {}
        self._taken = 0
        self._delivered = 0
        self._bytes = 0
        self._left = False

    def replies(self) -> Iterator[Message]:
        """The replies, in the order of the calls."""
        while True:
            self._take_calls()
            self._give_out()
            if self._is_there():
                yield self._deliver()
                self._listen(0.0)
            elif self._open:
                self._listen(self._patience())
            else:
                return

    def leave(self) -> None:
        """Forget what was published; workers that are still at work for nothing are ended."""
        if self._left:
            # The workers may be another federation's by now.
            return
        self._left = True
        retired = self._clients.publisher.close()
        for desk in self._clients.desks:
            if desk.cases:
                self._clients.end(desk)
            desk.forget(retired)
            # One that is gone has nothing to forget.
            with suppress(ChannelClosed):
                desk.tidy()

    def _take_calls(self) -> None:
        """Take as many calls as may be on their way: some for every worker, and no more than fit into memory."""
        while self._more and len(self._open) < self._window():
            call = next(self._calls, None)
            if call is None:
                self._more = False
                self._schedule.all_are_here()
                return
            case = self._open[self._taken] = Case(self._taken, call, [])
            self._taken += 1
            if call.refusal is not None:
                case.reply = call.refusal
                continue
            case.held = self._clients.publisher.hold(call.message)
            self._schedule.add(case.number, call.node, call.message.metadata.message_type)
            kind = call.message.metadata.message_type
            known = self._clients.reply_bytes.get(kind)
            self._bytes = max(self._bytes, _bytes(case.held) if known is None else known)

    def _window(self) -> int:
        fitting = AHEAD_BYTES // self._bytes if self._bytes else AHEAD_MESSAGES
        return max(2 * len(self._clients.desks), min(fitting, AHEAD_MESSAGES))

    def _give_out(self) -> None:
        for place in range(len(self._clients.desks)):
            while self._schedule and self._give(self._clients.desks[place]):
                pass

    def _give(self, desk: Desk) -> bool:
        """Give a worker something to do, unless it has enough; one that is still starting gets nothing."""
        if not desk.opened:
            return False
        load, workers = desk.load, len(self._clients.desks)
        if self._clients.cohort > 1:
            # Each worker's share of the exchange, as far as it is known: one cohort for all would leave the rest idle.
            most = min(self._clients.cohort, -(-self._taken // workers))
            numbers = [] if desk.cases else self._schedule.take(desk.place, None, most)
        elif load is None or (desk.cases and load >= SHORT_SECONDS):
            numbers = []
        else:
            # Whoever has work leaves that of others to them: their workers have the data.
            numbers = self._schedule.take(desk.place, 2 * SHORT_SECONDS - load, MOST_AT_ONCE, not desk.cases)
        if not numbers:
            return False
        cases = [self._open[number] for number in numbers]
        together = len(cases) > 1 and self._clients.cohort > 1 and not any(case.alone for case in cases)
        expected = [self._schedule.expected(number) for number in numbers]
        try:
            desk.give(cases, expected, self._clients.nodes, self._clients.publisher, together)
        except ChannelClosed:
            self._lost(desk)
        return True

    def _is_there(self) -> bool:
        case = self._open.get(self._delivered)
        return case is not None and case.reply is not None

    def _deliver(self) -> Message:
        case = self._open.pop(self._delivered)
        self._delivered += 1
        assert case.reply is not None
        return case.reply

    def _patience(self) -> float | None:
        """Seconds until a worker will have had all its time; None: there is no limit."""
        deadlines = [desk.deadline if desk.opened else desk.started + _START_SECONDS for desk in self._clients.desks]
        first = min((deadline for deadline in deadlines if deadline is not None), default=None)
        return None if first is None else max(0.0, first - time.monotonic())

    def _listen(self, seconds: float | None) -> None:
        """Take in what workers have sent, after waiting for it up to `seconds`; look after those who are silent."""
        # Rounded up: a poll that ends before the deadline would only be repeated.
        self._clients.wait(None if seconds is None else int(seconds * 1000) + (1 if seconds else 0))
        for desk in list(self._clients.desks):
            try:
                while (arrival := self._clients.hear(desk)) is not None:
                    self._take_in(desk, *arrival)
                    del arrival
            except ChannelClosed:
                self._lost(desk)
        now = time.monotonic()
        for desk in list(self._clients.desks):
            if not desk.opened and now > desk.started + _START_SECONDS:
                raise FedunlearnError(
                    f"a worker process was not ready within {_START_SECONDS:g} s: see what the client app does when it "
                    "is imported, or use workers=0."
                )
            if desk.deadline is not None and desk.deadline <= now:
                self._cut(desk)

    def _take_in(self, desk: Desk, frame: dict[str, Any], memory: np.ndarray | None) -> None:
        case = desk.answered(frame["number"])
        kind, node = case.call.message.metadata.message_type, case.call.node

        def known(where: str, what: Any) -> ArrayRecord:
            if where == "published":
                return self._clients.publisher.record(what)
            assert case.state is not None
            return case.state.array_records[what]

        content, error = None, None
        if "error" in frame:
            error = Error(*frame["error"])
        else:
            content = unpacked(frame["content"], desk.worker.post.layouts, memory, known)
            self._clients.reply_bytes[kind] = 0 if memory is None else len(memory)
        if "state" in frame:
            state = unpacked(frame["state"], desk.worker.post.layouts, memory, known)
            self._clients.nodes.keep(node, _own(state))
        self._clients.lengths.note(node, kind, frame["seconds"], None if content is None else _samples(content))
        if "metadata" in frame:
            metadata = frame["metadata"]
        else:
            metadata = reply_metadata(metadata_values(case.call.message), *frame["times"])
        self._settle(case, message_of(metadata, content, error))

    def _settle(self, case: Case, reply: Message) -> None:
        """The case has its reply."""
        case.reply = reply
        self._schedule.finished(case.number)
        retired = self._clients.publisher.release(case.held)
        if retired:
            for desk in self._clients.desks:
                desk.forget(retired)

    def _lost(self, desk: Desk) -> None:
        """A worker died: what it was at had its chance or gets another, the rest goes to whoever is free."""
        cases = self._clients.replace(desk)
        if cases and desk.together:
            _set_alone(cases)
        elif cases:
            at = cases[0]
            at.deaths += 1
            # Several workers may be killed at a time: a second one that had not begun is no fault of the client.
            if (at.deaths >= 2 and at.begun) or at.deaths >= _MOST_DEATHS:
                sentence = f"{self._clients.nodes.name(at.call.node)} died with its worker process"
                self._settle(at, error_reply(at.call.message, ErrorCode.CLIENT_APP_CRASHED, sentence))
                del cases[0]
        self._give_back(cases)

    def _cut(self, desk: Desk) -> None:
        """A client has had its time: its worker is ended."""
        cases = self._clients.replace(desk)
        if desk.together:
            _set_alone(cases)
        else:
            at = cases.pop(0)
            assert at.call.limit is not None
            sentence = overdue_sentence(self._clients.nodes.name(at.call.node), at.call.limit)
            self._settle(at, error_reply(at.call.message, ErrorCode.CLIENT_APP_CRASHED, sentence))
        self._give_back(cases)

    def _give_back(self, cases: Sequence[Case]) -> None:
        for case in cases:
            self._schedule.give_back(case.number)


def _set_alone(cases: Sequence[Case]) -> None:
    for case in cases:
        case.alone = True


def _own(state: RecordDict) -> RecordDict:
    """The state with memory of its own, as it outlasts the reply: a small state would keep a large block in use."""
    for record in state.values():
        if isinstance(record, ArrayRecord):
            for key, array in record.items():
                record[key] = LiveArray(view(array).copy()) if isinstance(array, LiveArray) else array
    return state


def _samples(content: RecordDict) -> float | None:
    """The number of samples that a reply stands for, if it says so the way Flower's strategies want it."""
    for record in content.values():
        if isinstance(record, MetricRecord) and "num-examples" in record:
            count = record["num-examples"]
            return float(count) if isinstance(count, int | float) else None
    return None


def _bytes(held: Held) -> int:
    arrays = [array for _, record in held for array in record.values()]
    return sum(math.prod(array.shape) * np.dtype(array.dtype).itemsize for array in arrays if array.stype == NUMPY)
