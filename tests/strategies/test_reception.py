from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.engines.flower_compat import address, ensure_identity
from fedunlearn.errors import ClientError
from fedunlearn.flower_arrays import live_record
from fedunlearn.strategies.content import ARRAYS, FLAGS, METRICS
from fedunlearn.strategies.reception import Answer, Reception, Sent, nothing_but_finite

ensure_identity()


def sending(clients: int) -> tuple[Sent, list[Message]]:
    """Messages to clients 0, 1, …, at nodes 100, 101, …, as a grid has addressed them."""
    sent = Sent({client: 100 + client for client in range(clients)}, lambda client: RecordDict(), "train")
    messages = list(sent.messages())
    for number, message in enumerate(messages):
        address(message, f"message-{number}")
    return sent, messages


def reply_to(message: Message, value: float = 1.0, **flags: bool) -> Message:
    content = RecordDict({METRICS: MetricRecord({"num-examples": 2}), FLAGS: ConfigRecord(dict(flags))})
    content[ARRAYS] = live_record({"w": np.full(3, value, np.float32)})
    return Message(content, reply_to=message)


@given(st.permutations(range(6)), st.sets(st.integers(0, 5)))
def test_answers_are_handed_on_in_client_order_whatever_the_order_of_arrival(
    order: list[int], failing: set[int]
) -> None:
    sent, messages = sending(6)
    taken: list[int] = []
    reception = Reception(range(6), lambda answer: taken.append(answer.client), 1.0)
    replies = [
        Message(Error(2, f"client {c} broke."), reply_to=messages[c]) if c in failing else reply_to(messages[c])
        for c in order
    ]
    assert reception.receive(sent, replies) == []
    sound = [client for client in range(6) if client not in failing]
    assert taken == [answer.client for answer in reception.answers] == sound
    assert reception.dropped == [(client, f"client {client} broke.") for client in sorted(failing)]
    assert reception.up == dict.fromkeys(sound, 3 * 4 + 8)


def test_messages_are_made_one_at_a_time() -> None:
    made: list[int] = []

    def make(client: int) -> RecordDict:
        made.append(client)
        return RecordDict()

    messages = Sent({3: 103, 1: 101}, make, "train", "7").messages()
    assert made == []
    first = next(messages)
    assert made == [3] and (first.metadata.dst_node_id, first.metadata.group_id) == (103, "7")


def test_what_has_been_handed_on_is_let_go() -> None:
    """A grid that makes replies as they are read: at no time are more than two of them alive."""
    sent = Sent({client: 100 + client for client in range(20)}, lambda client: RecordDict(), "train")
    alive: list[weakref.ref] = []
    most = 0

    def replies() -> Iterator[Message]:
        nonlocal most
        for number, message in enumerate(sent.messages()):
            address(message, f"message-{number}")
            array = np.full(3, 1.0, np.float32)
            alive.append(weakref.ref(array))
            content = RecordDict({METRICS: MetricRecord({"num-examples": 2})})
            content[ARRAYS] = live_record({"w": array})
            reply = Message(content, reply_to=message)
            del array, content
            yield reply
            del reply, message
            gc.collect()
            most = max(most, sum(one() is not None for one in alive))

    reception = Reception(range(20), nothing_but_finite, 1.0)
    reception.receive(sent, replies())
    assert len(reception.answers) == 20 and most <= 1


def test_a_reply_of_nobodys_and_a_second_one_are_passed_over() -> None:
    sent, messages = sending(2)
    _, strange = sending(9)
    address(strange[8], "another")
    taken: list[Answer] = []
    reception = Reception(range(2), taken.append, 1.0)
    reception.receive(sent, [reply_to(strange[8]), reply_to(messages[0]), reply_to(messages[0], 5.0)])
    assert [answer.client for answer in taken] == [0] and taken[0].arrays["w"][0] == 1.0
    assert reception.dropped == [(1, "client 1 did not answer within 1 s.")]


def test_a_node_that_vanished_is_found_by_its_message() -> None:
    sent, messages = sending(3)
    gone = Message(Error(3, "node unavailable"), reply_to=messages[1])
    gone.metadata.__dict__["_src_node_id"] = 1
    reception = Reception(range(3), nothing_but_finite, 1.0)
    reception.receive(sent, [gone, reply_to(messages[0]), reply_to(messages[2])])
    assert reception.dropped == [(1, "node unavailable")]
    assert [answer.client for answer in reception.answers] == [0, 2]


def test_who_lacks_the_base_is_still_expected_and_the_later_ones_wait() -> None:
    sent, messages = sending(3)
    taken: list[int] = []
    reception = Reception(range(3), lambda answer: taken.append(answer.client), 1.0)
    replies = [reply_to(messages[0]), reply_to(messages[1], **{"needs-base": True}), reply_to(messages[2])]
    assert reception.receive(sent, replies, may_lack=True) == [1]
    assert taken == [0] and reception.lacking == {1} and 1 not in reception.up
    again = Sent({1: 101}, lambda client: RecordDict(), "train")
    [message] = again.messages()
    assert reception.receive(again, [reply_to(message)]) == []
    assert taken == [0, 1, 2] and reception.lacking == frozenset()


def _with(record: ArrayRecord | None = None, **metrics: object) -> RecordDict:
    content = RecordDict({METRICS: MetricRecord({"num-examples": 2, **metrics})})  # type: ignore[dict-item]
    content[ARRAYS] = record or live_record({"w": np.ones(2, np.float32)})
    return content


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (_with(ArrayRecord({"w": Array("float32", (2,), "numpy.ndarray", b"junk")})), "client 0: an array came as 4 b"),
        (_with(live_record({"w": np.array([1.0, np.nan])})), "client 0 sent an update of 'w', which holds"),
        (_with(loss=float("inf")), "client 0 sent the metric 'loss', which holds a number"),
        (_with(losses=[1.0, float("nan")]), "client 0 sent the metric 'losses', which holds a number"),
    ],
)
def test_what_cannot_be_used_is_dropped(content: RecordDict, sentence: str) -> None:
    sent, messages = sending(2)
    reception = Reception(range(2), nothing_but_finite, 1.0)
    reception.receive(sent, [Message(content, reply_to=messages[0]), reply_to(messages[1])])
    [(client, why)] = reception.dropped
    assert client == 0 and why.startswith(sentence)
    assert [answer.client for answer in reception.answers] == [1]


def test_who_takes_an_answer_may_refuse_it() -> None:
    def take(answer: Answer) -> None:
        if answer.client == 1:
            raise ClientError("client 1 is too late.")

    sent, messages = sending(3)
    reception = Reception(range(3), take, 1.0)
    reception.receive(sent, [reply_to(message) for message in messages])
    assert reception.dropped == [(1, "client 1 is too late.")]
    assert [(a.client, a.metrics, a.arrays, a.message) for a in reception.answers] == [
        (0, {"num-examples": 2}, {}, None),
        (2, {"num-examples": 2}, {}, None),
    ]
