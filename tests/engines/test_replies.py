from __future__ import annotations

import gc
import weakref

import pytest
from flwr.app import Message, MetricRecord, RecordDict

from fedunlearn.engines import LocalGrid
from fedunlearn.engines.replies import Replies
from fedunlearn.errors import FedunlearnError


@pytest.fixture
def grid(build_app):
    """A grid of three clients, and the order in which they ran."""
    order: list[int] = []
    with LocalGrid(build_app(lambda client, message, context: order.append(client)), clients=3) as grid:
        yield grid, order


def messages(grid):
    from flwr.app import ArrayRecord

    return [Message(RecordDict({"arrays": ArrayRecord()}), node, "train") for node in grid.get_node_ids()]


def clients_of(replies):
    return [reply.content["metrics"]["client"] for reply in replies]


def test_a_client_runs_when_its_reply_is_asked_for(grid):
    grid, order = grid
    replies = iter(grid.send_and_receive(messages(grid)))
    assert order == []
    next(replies)
    assert order == [0]
    assert clients_of(replies) == [1, 2]


def test_messages_may_be_made_one_by_one(grid):
    grid, order = grid
    made = []

    def generated():
        for message in messages(grid):
            made.append(len(order))
            yield message

    assert clients_of(grid.send_and_receive(generated())) == [0, 1, 2]
    assert made == [0, 1, 2]


def test_nothing_is_kept_of_a_reply_that_was_let_go(grid):
    grid, _ = grid
    held = []
    for reply in grid.send_and_receive(messages(grid)):
        held.append(weakref.ref(reply.content["metrics"]))
        del reply
        gc.collect()
        assert held[-1]() is None
    assert len(held) == 3


def test_what_nobody_reads_is_executed_all_the_same(grid):
    grid, order = grid
    grid.send_and_receive(messages(grid))
    assert order == []
    grid.send_and_receive(messages(grid)[:1])
    assert order == [0, 1, 2]
    grid.close()
    assert order == [0, 1, 2, 0]


def test_replies_that_are_read_later_are_kept(grid):
    grid, order = grid
    early = grid.send_and_receive(messages(grid))
    late = grid.send_and_receive(messages(grid)[::-1])
    assert order == [0, 1, 2]
    assert clients_of(late) == [2, 1, 0]
    assert clients_of(early) == [0, 1, 2]


def test_an_exchange_within_an_exchange(grid):
    grid, _ = grid
    seen = []
    for reply in grid.send_and_receive(messages(grid)):
        seen.append(reply.content["metrics"]["client"])
        if len(seen) == 1:
            seen += clients_of(grid.send_and_receive(messages(grid)[1:2]))
    assert seen == [0, 1, 1, 2]


def test_a_server_that_fails_does_not_run_the_rest(build_app):
    order: list[int] = []
    app = build_app(lambda client, message, context: order.append(client))
    with pytest.raises(ZeroDivisionError), LocalGrid(app, clients=3) as grid:
        for _ in grid.send_and_receive(messages(grid)):
            raise ZeroDivisionError
    assert order == [0]


def test_length_index_and_emptiness_wait_for_what_they_need():
    def source():
        for number in range(3):
            made.append(number)
            yield Message.__new__(Message)

    made: list[int] = []
    replies = Replies(source())
    assert replies and made == [0]
    assert len(replies) == 3 and made == [0, 1, 2]
    first = replies[0]
    assert isinstance(first, Message)
    assert next(iter(replies)) is first
    assert not Replies(iter(()))


def test_reading_twice_is_refused_and_not_silently_empty():
    replies = Replies(iter((Message.__new__(Message),)))
    assert len(list(replies)) == 1
    with pytest.raises(FedunlearnError, match="make a list of them"):
        iter(replies)


def test_a_reply_can_be_unpacked(grid):
    grid, _ = grid
    (reply,) = grid.send_and_receive(messages(grid)[:1])
    assert isinstance(reply.content["metrics"], MetricRecord)
