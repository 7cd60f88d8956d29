"""Clients in this process, one after the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

from flwr.app import Message
from flwr.clientapp import ClientApp

from fedunlearn.engines.answering import answer, error_reply, overdue_sentence
from fedunlearn.engines.cohorts import answer_together, batch_of, in_cohorts
from fedunlearn.engines.flower_compat import ErrorCode, copy_message
from fedunlearn.engines.nodes import Call, Nodes
from fedunlearn.engines.worker_thread import Overdue, WorkerThread

THREAD = "fedunlearn-clients"


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
        self._thread = WorkerThread(THREAD)
        self._left_behind: dict[int, threading.Thread] = {}

    def answers(self, calls: Iterator[Call], enough: Callable[[], bool] = lambda: False) -> Iterator[Message]:
        """One reply a call, in their order; stops before a call is taken once `enough()` holds."""
        while not enough():
            together = list(islice(calls, self._cohort))
            if not together:
                return
            started = time.perf_counter()
            replies = self._replies(together) if len(together) > 1 else [self._reply(together[0])]
            self.seconds += time.perf_counter() - started
            self.answered += len(together)
            del together
            # Taken out as they are handed over: what is kept here lives until the next one is asked for.
            while replies:
                yield replies.pop()

    def close(self) -> None:
        """End the thread in which clients with a time limit run."""
        self._thread.close()

    def _reply(self, call: Call) -> Message:
        if call.refusal is not None:
            return call.refusal
        node, message = call.node, call.message
        if self._is_left_behind(node):
            sentence = f"{self._nodes.name(node)} is still busy with an earlier message that it did not answer in time"
            return error_reply(message, ErrorCode.NODE_UNAVAILABLE, sentence)
        context = self._nodes.context(node)
        own = copy_message(message)
        try:
            if call.limit is None:
                reply, sound = answer(self._app, own, context)
            else:
                reply, sound = self._thread.run(partial(answer, self._app, own, context), call.limit)
        except Overdue as overdue:
            # What it does to its context from now on, nobody looks at.
            self._left_behind[node] = overdue.thread
            sentence = overdue_sentence(self._nodes.name(node), overdue.timeout)
            return error_reply(message, ErrorCode.CLIENT_APP_CRASHED, sentence)
        if sound:
            self._nodes.keep(node, context.state)
        return copy_message(reply)

    def _replies(self, calls: list[Call]) -> list[Message]:
        """Replies to several calls, the last one first."""
        replies: list[Message] = []
        for cohort in in_cohorts([call.message for call in calls]):
            members = [calls[index] for index in cohort]
            given = self._given(members) if len(members) > 1 else {}
            for call in members:
                reply = given.pop(call.node, None)
                replies.append(self._reply(call) if reply is None else reply)
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
