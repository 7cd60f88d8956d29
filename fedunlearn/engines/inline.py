"""Clients in this process, one after the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import cast

from flwr.app import Message
from flwr.clientapp import ClientApp

from fedunlearn.engines.answering import answer, error_reply, overdue_sentence
from fedunlearn.engines.cohorts import answer_together, batch_of, in_cohorts
from fedunlearn.engines.flower_compat import ErrorCode
from fedunlearn.engines.nodes import Call, Nodes
from fedunlearn.engines.worker_thread import Overdue, WorkerThread
from fedunlearn.flower_arrays import view
from fedunlearn.flower_messages import copy_message

THREAD = "fedunlearn-clients"
QUICK_SECONDS, MOST_AHEAD, MOST_BYTES = 0.001, 128, 16_000_000
"""Calls that take less than so many seconds are handed to the thread of those with a time limit several at once, as
long as their replies together do not exceed so many bytes."""


class InlineClients:
    """Answers calls in this process.

    Args:
        client_app: what answers.
        nodes: the clients.
        cohort: calls that are put together where the app can answer several at once; 1: none.

    Attributes:
        seconds: spent in clients so far.
        answered: calls so far.
    """

    def __init__(self, client_app: ClientApp, nodes: Nodes, cohort: int = 1) -> None:
        self.seconds = 0.0
        self.answered = 0
        self._app = client_app
        self._batch = batch_of(client_app)
        self._nodes = nodes
        self._cohort = cohort if self._batch is not None else 1
        self._ahead = 1
        self._thread = WorkerThread(THREAD)
        self._left_behind: dict[int, threading.Thread] = {}

    def answers(self, calls: Iterator[Call], enough: Callable[[], bool] = lambda: False) -> Iterator[Message]:
        """One reply a call, in their order; stops before a call is taken once `enough()` holds.

        All calls have the same limit.
        """
        while not enough():
            together = list(islice(calls, self._cohort if self._cohort > 1 else self._ahead))
            if not together:
                return
            started = time.perf_counter()
            replies = (self._replies if self._cohort > 1 else self._in_turn)(together)
            seconds = time.perf_counter() - started
            self.seconds += seconds
            self.answered += len(together)
            self._ahead = _ahead(together[0], replies, seconds)
            del together
            # Taken out as they are handed over: what is kept here lives until the next one is asked for.
            while replies:
                yield replies.pop()

    def close(self) -> None:
        """End the thread in which clients with a time limit run."""
        self._thread.close()

    def _in_turn(self, calls: list[Call]) -> list[Message]:
        """Replies to calls that are answered one after the other, the last one first."""
        if len(calls) > 1 and len({call.node for call in calls}) < len(calls):
            # What a client leaves in its context is there for the next call to it.
            return [reply for call in reversed(calls) for reply in self._in_turn([call])]
        replies = {call.node: refusal for call in calls if (refusal := self._refusal(call)) is not None}
        asked = [call for call in calls if call.node not in replies] if replies else calls
        while asked:
            contexts = [self._nodes.context(call.node) for call in asked]
            ask = [
                partial(answer, self._app, copy_message(call.message), context, call.message)
                for call, context in zip(asked, contexts, strict=True)
            ]
            limit, overdue = asked[0].limit, None
            try:
                answers = [one() for one in ask] if limit is None else self._thread.run_all(ask, limit)
            except Overdue as caught:
                overdue, answers = caught, cast(list[tuple[Message, bool]], list(caught.results))
            for call, context, (reply, sound) in zip(asked, contexts, answers, strict=False):
                if sound:
                    self._nodes.keep(call.node, context.state)
                replies[call.node] = copy_message(reply)
            asked = asked[len(answers) :]
            if overdue is not None:
                # What it does to its context from now on, nobody looks at.
                late = asked.pop(0)
                self._left_behind[late.node] = overdue.thread
                sentence = overdue_sentence(self._nodes.name(late.node), overdue.timeout)
                replies[late.node] = error_reply(late.message, ErrorCode.CLIENT_APP_CRASHED, sentence)
        return [replies[call.node] for call in reversed(calls)]

    def _refusal(self, call: Call) -> Message | None:
        if call.refusal is not None or not self._is_left_behind(call.node):
            return call.refusal
        sentence = f"{self._nodes.name(call.node)} is still busy with an earlier message that it did not answer in time"
        return error_reply(call.message, ErrorCode.NODE_UNAVAILABLE, sentence)

    def _replies(self, calls: list[Call]) -> list[Message]:
        """Replies to several calls, the last one first."""
        replies: list[Message] = []
        for cohort in in_cohorts([call.message for call in calls]):
            members = [calls[index] for index in cohort]
            given = self._given(members) if len(members) > 1 else {}
            for call in members:
                reply = given.pop(call.node, None)
                replies.append(self._in_turn([call])[0] if reply is None else reply)
        return replies[::-1]

    def _given(self, calls: list[Call]) -> dict[int, Message]:
        """Node -> its reply, as far as the app answers these calls at once."""
        assert self._batch is not None
        asked = [call for call in calls if call.refusal is None and not self._is_left_behind(call.node)]
        contexts = [self._nodes.context(call.node) for call in asked]
        ask = partial(answer_together, self._batch, [call.message for call in asked], contexts)
        limits = [call.limit for call in asked if call.limit is not None]
        try:
            replies = self._thread.run(ask, sum(limits)) if limits else ask()
        except Overdue:
            # Which of them it was shows when each is asked alone.
            return {}
        given = {}
        for call, context, reply in zip(asked, contexts, replies, strict=True):
            if reply is not None:
                self._nodes.keep(call.node, context.state)
                given[call.node] = copy_message(reply)
        return given

    def _is_left_behind(self, node: int) -> bool:
        thread = self._left_behind.get(node)
        if thread is not None and not thread.is_alive():
            del self._left_behind[node]
            return False
        return thread is not None


def _ahead(call: Call, replies: list[Message], seconds: float) -> int:
    """How many calls are to be answered at once, after `replies` took `seconds`."""
    if call.limit is None or seconds > QUICK_SECONDS * len(replies) or not replies[0].has_content():
        return 1
    size = sum(view(array).nbytes for record in replies[0].content.array_records.values() for array in record.values())
    return max(1, min(MOST_AHEAD, MOST_BYTES // max(size, 1)))
