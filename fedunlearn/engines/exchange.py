"""One exchange with worker processes: every call is given out, and answered in order whatever the workers do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Error, Message, MetricRecord, RecordDict

from fedunlearn.engines.answering import error_reply, overdue_sentence
from fedunlearn.engines.channel import ChannelClosed
from fedunlearn.engines.desk import Case, Desk
from fedunlearn.engines.desks import Desks
from fedunlearn.engines.flower_compat import ErrorCode, message_of, metadata_values, reply_metadata
from fedunlearn.engines.nodes import Call, Nodes
from fedunlearn.engines.publishing import Held, Publisher
from fedunlearn.engines.records import unpacked
from fedunlearn.engines.scheduling import MOST_AT_ONCE, SHORT_SECONDS, Lengths, Schedule
from fedunlearn.flower_arrays import NUMPY, LiveArray, view

AHEAD_BYTES = 128 * 2**20
"""Replies that may wait for an earlier one, in bytes of their arrays."""
AHEAD_MESSAGES = 1024
"""And in number."""
_MOST_DEATHS = 6


class Exchange:
    """The calls of one exchange, from the first that is given out to the last reply that is delivered.

    A worker that dies takes nothing with it but what it was at: that call is answered once more, by another worker,
    and is an error only if that dies too.

    Args:
        desks: of the workers.
        nodes: the clients, whose states are kept there.
        publisher: writes what several messages hold once for all workers.
        lengths: how long clients take; learnt from, and added to.
        reply_bytes: message type -> bytes of the last reply; the same.
        cohort: calls that are put together where the app can answer several at once; 1: none.
        calls: read as there is room for them.
    """

    def __init__(
        self,
        desks: Desks,
        nodes: Nodes,
        publisher: Publisher,
        lengths: Lengths,
        reply_bytes: dict[str, int],
        cohort: int,
        calls: Iterator[Call],
    ) -> None:
        self._desks, self._nodes, self._publisher = desks, nodes, publisher
        self._lengths, self._reply_bytes, self._cohort = lengths, reply_bytes, cohort
        self._calls = calls
        self._more = True
        self._schedule = Schedule(len(desks), lengths, desks.homes)
        self._open: dict[int, Case] = {}
        self._taken = 0
        self._delivered = 0
        self._bytes = 0
        self._left = False

    def replies(self) -> Iterator[Message]:
        """The replies, in the order of the calls.

        Raises:
            FedunlearnError: the app cannot be had in a worker, or workers do not start.
        """
        while True:
            self._take_calls()
            self._give_out()
            if self._is_there():
                yield self._deliver()
                self._listen(0.0)
            elif self._open:
                self._listen(self._desks.patience())
            else:
                return

    def leave(self) -> None:
        """Forget what was published; workers that are still at work for nothing are ended."""
        if self._left:
            # The workers may be another federation's by now.
            return
        self._left = True
        retired = self._publisher.close()
        for desk in self._desks:
            if desk.cases:
                self._desks.end(desk)
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
            case.held = self._publisher.hold(call.message)
            kind = call.message.metadata.message_type
            self._schedule.add(case.number, call.node, kind)
            known = self._reply_bytes.get(kind)
            self._bytes = max(self._bytes, _bytes(case.held) if known is None else known)

    def _window(self) -> int:
        fitting = AHEAD_BYTES // self._bytes if self._bytes else AHEAD_MESSAGES
        return max(2 * len(self._desks), min(fitting, AHEAD_MESSAGES))

    def _give_out(self) -> None:
        for place in range(len(self._desks)):
            while self._schedule and self._give(self._desks[place]):
                pass

    def _give(self, desk: Desk) -> bool:
        """Give a worker something to do, unless it has enough; one that is still starting gets nothing."""
        if not desk.opened:
            return False
        load, workers = desk.load, len(self._desks)
        if self._cohort > 1:
            # Each worker's share of the exchange, as far as it is known: one cohort for all would leave the rest idle.
            most = min(self._cohort, -(-self._taken // workers))
            numbers = [] if desk.cases else self._schedule.take(desk.place, None, most)
        elif load is None or (desk.cases and load >= SHORT_SECONDS):
            numbers = []
        else:
            # Whoever has work leaves that of others to them: their workers have the data.
            numbers = self._schedule.take(desk.place, 2 * SHORT_SECONDS - load, MOST_AT_ONCE, not desk.cases)
        if not numbers:
            return False
        cases = [self._open[number] for number in numbers]
        together = len(cases) > 1 and self._cohort > 1 and not any(case.alone for case in cases)
        expected = [self._schedule.expected(number) for number in numbers]
        try:
            desk.give(cases, expected, self._nodes, self._publisher, together)
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

    def _listen(self, seconds: float | None) -> None:
        """Take in what workers have sent, after waiting for it up to `seconds`; look after those who are silent."""
        self._desks.wait(seconds)
        for desk in self._desks:
            try:
                while (arrival := self._desks.hear(desk)) is not None:
                    self._take_in(desk, *arrival)
                    del arrival
            except ChannelClosed:
                self._lost(desk)
        for desk in self._desks.overdue():
            self._cut(desk)

    def _take_in(self, desk: Desk, frame: dict[str, Any], memory: np.ndarray | None) -> None:
        case = desk.answered(frame["number"])
        kind, node = case.call.message.metadata.message_type, case.call.node

        def known(where: str, what: Any) -> ArrayRecord:
            if where == "published":
                return self._publisher.record(what)
            assert case.state is not None
            return case.state.array_records[what]

        content, error = None, None
        if "error" in frame:
            error = Error(*frame["error"])
        else:
            content = unpacked(frame["content"], desk.worker.post.layouts, memory, known)
            self._reply_bytes[kind] = 0 if memory is None else len(memory)
        if "state" in frame:
            state = unpacked(frame["state"], desk.worker.post.layouts, memory, known)
            self._nodes.keep(node, _own(state))
        self._lengths.note(node, kind, frame["seconds"], None if content is None else _samples(content))
        if "metadata" in frame:
            metadata = frame["metadata"]
        else:
            metadata = reply_metadata(metadata_values(case.call.message), *frame["times"])
        self._settle(case, message_of(metadata, content, error))

    def _settle(self, case: Case, reply: Message) -> None:
        """The case has its reply."""
        case.reply = reply
        self._schedule.finished(case.number)
        retired = self._publisher.release(case.held)
        if retired:
            for desk in self._desks:
                desk.forget(retired)

    def _lost(self, desk: Desk) -> None:
        """A worker died: what it was at had its chance or gets another, the rest goes to whoever is free."""
        cases = self._desks.replace(desk)
        if cases and desk.together:
            _set_alone(cases)
        elif cases:
            at = cases[0]
            at.deaths += 1
            # Several workers may be killed at a time: a second one that had not begun is no fault of the client.
            if (at.deaths >= 2 and at.begun) or at.deaths >= _MOST_DEATHS:
                sentence = f"{self._nodes.name(at.call.node)} died with its worker process"
                self._settle(at, error_reply(at.call.message, ErrorCode.CLIENT_APP_CRASHED, sentence))
                del cases[0]
        self._give_back(cases)

    def _cut(self, desk: Desk) -> None:
        """A client has had its time: its worker is ended."""
        cases = self._desks.replace(desk)
        if desk.together:
            _set_alone(cases)
        else:
            at = cases.pop(0)
            assert at.call.limit is not None
            sentence = overdue_sentence(self._nodes.name(at.call.node), at.call.limit)
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
