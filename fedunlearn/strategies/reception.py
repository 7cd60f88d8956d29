"""Replies as they come: judged, counted, handed on one at a time in the order of the clients, and let go."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fedunlearn.errors import ClientError, CorruptModel
from fedunlearn.flower_messages import envelope, readdressed
from fedunlearn.strategies.content import ARRAYS, FLAGS, METRICS, numpy_arrays, payload_bytes
from fedunlearn.strategies.running_mean import check_finite

Metrics = dict[str, int | float | list[int] | list[float]]


@dataclass(frozen=True)
class Answer:
    """One client's sound answer. What an exchange keeps of it has neither arrays nor message any more."""

    client: int
    metrics: Metrics
    flags: Mapping[str, bool]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    message: Message | None = None


Take = Callable[[Answer], None]
"""What is done with each answer; it may refuse one by raising ClientError, and must not keep what it does not need."""


def nothing_but_finite(answer: Answer) -> None:
    """Refuse (ClientError) an answer whose arrays hold a number that is not finite."""
    check_finite(answer.arrays, f"client {answer.client}")


class Sent:
    """Messages on their way, made as they are asked for, until the reply to each has come."""

    def __init__(
        self, clients: Mapping[int, int], make: Callable[[int], RecordDict], message_type: str, group: str = ""
    ):
        """`clients`: client -> its node, in the order of sending; `make`: client -> what it is sent."""
        self._nodes = clients
        self._make = make
        self._type = message_type
        self._group = group
        self._client_at = {node: client for client, node in clients.items()}
        self._waiting: dict[int, Message] = {}
        self._unheard = set(clients)
        self._client_of: dict[str, int] = {}

    def messages(self) -> Iterator[Message]:
        """One message a client, each made when it is asked for."""
        pattern: Message | None = None
        for client, node in self._nodes.items():
            content = self._make(client)
            # Flower checks all that the messages have in common, which takes several times as long as a copy.
            if pattern is None:
                message = Message(content, node, self._type, group_id=self._group)
                pattern = envelope(message)
            else:
                message = readdressed(pattern, content, node)
            self._waiting[client] = message
            yield message

    def claim(self, reply: Message) -> int | None:
        """The client whose reply this is; None for nobody's, or for a second reply."""
        metadata = reply.metadata
        answered = metadata.reply_to_message_id
        client = self._client_at.get(metadata.src_node_id)
        sent = None if client is None else self._waiting.get(client)
        if sent is None or sent.metadata.message_id != answered:
            # A node that vanished answers under another id: then it is found by the message.
            client = self._by_message(answered, client)
        if client is None or client not in self._unheard:
            return None
        self._unheard.remove(client)
        del self._waiting[client]
        return client

    def unheard(self) -> list[int]:
        """Clients whose reply has not come."""
        return sorted(self._unheard)

    def _by_message(self, message_id: str, otherwise: int | None) -> int | None:
        if message_id not in self._client_of:
            self._client_of = {message.metadata.message_id: client for client, message in self._waiting.items()}
        found = self._client_of.get(message_id)
        return found if found is not None else otherwise if otherwise in self._waiting else None


class Reception:
    """Hands the clients' answers on in the order of the clients, whatever the order in which they come.

    An answer waits only while that of a client before it is still expected; what has been handed on is not kept.

    Args:
        clients: who is asked.
        take: what is done with each answer.
        timeout: seconds that are waited, for the sentence.
    """

    def __init__(self, clients: Iterable[int], take: Take, timeout: float) -> None:
        self._expected = iter(sorted(clients))
        self._next = next(self._expected, None)
        self._held: dict[int, Answer | None] = {}
        self._take = take
        self._timeout = timeout
        self.answers: list[Answer] = []
        """What was handed on, in client order, without arrays."""
        self.dropped: list[tuple[int, str]] = []
        """(client, sentence) of whoever failed, said nothing or sent what cannot be used."""
        self.up: dict[int, int] = {}
        """Client -> bytes of its answer."""
        self.lacking: frozenset[int] = frozenset()
        """Clients that said last that they lack the base model."""

    def receive(self, sent: Sent, replies: Iterable[Message], may_lack: bool = False) -> list[int]:
        """Take in the replies to what was sent.

        Returns the clients that say they lack the base model, if they may: they are still expected.
        """
        lacking = []
        for reply in replies:
            client = sent.claim(reply)
            if client is None:
                continue
            try:
                answer = self._judged(client, reply)
            except ClientError as error:
                self._leave_out(client, str(error))
                continue
            if answer.flags.get("needs-base"):
                lacking.append(client)
            else:
                self._settle(client, answer)
            del reply, answer  # while the next one is waited for, this one is not needed
        for client in sent.unheard():
            self._leave_out(client, f"client {client} did not answer within {self._timeout:g} s.")
        for client in lacking:
            del self.up[client]
            if not may_lack:
                self._leave_out(client, f"client {client} lacks the base model even after it was sent.")
        self.lacking = frozenset(lacking)
        self.dropped.sort()
        return sorted(lacking)

    def _judged(self, client: int, reply: Message) -> Answer:
        """The answer in a reply, its bytes counted. Raises ClientError for one that cannot be used."""
        if reply.has_error():
            raise ClientError(str(reply.error.reason).partition("\n")[0])
        try:
            answer = _read(client, reply)
        except CorruptModel as error:
            raise ClientError(f"client {client}: {error}") from error
        self.up[client] = payload_bytes(reply.content, without=FLAGS)
        for name, value in answer.metrics.items():
            if not (all(map(math.isfinite, value)) if isinstance(value, list) else math.isfinite(value)):
                raise ClientError(f"client {client} sent the metric {name!r}, which holds a number that is not finite.")
        return answer

    def _leave_out(self, client: int, sentence: str) -> None:
        self.dropped.append((client, sentence))
        self._settle(client, None)

    def _settle(self, client: int, answer: Answer | None) -> None:
        """A client's answer, or None for one that is left out, has its turn when all before it had theirs."""
        self._held[client] = answer
        while self._next is not None and self._next in self._held:
            ready = self._held.pop(self._next)
            self._next = next(self._expected, None)
            if ready is None:
                continue
            try:
                self._take(ready)
            except ClientError as error:
                self.dropped.append((ready.client, str(error)))
            else:
                self.answers.append(Answer(ready.client, ready.metrics, ready.flags))


def _read(client: int, reply: Message) -> Answer:
    """A reply's arrays, metrics and flags. Raises CorruptModel for arrays that are none."""
    content = reply.content
    arrays, metrics, flags = content.get(ARRAYS), content.get(METRICS), content.get(FLAGS)
    return Answer(
        client=client,
        metrics=dict(metrics.items()) if isinstance(metrics, MetricRecord) else {},
        flags={name: bool(value) for name, value in flags.items()} if isinstance(flags, ConfigRecord) else {},
        arrays=numpy_arrays(arrays) if isinstance(arrays, ArrayRecord) else {},
        message=reply,
    )
