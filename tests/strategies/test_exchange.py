from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedunlearn.engines.local import FIRST_NODE_ID, LocalGrid
from fedunlearn.errors import ClientError
from fedunlearn.strategies.content import ARRAYS, BASE, CONFIG, FLAGS, METRICS, array_record
from fedunlearn.strategies.exchange import Answer, Outcome, exchange
from fedunlearn.strategies.roster import Member, Roster

Behave = Callable[[int, Message], RecordDict]
ROSTER = Roster({client: Member(client, FIRST_NODE_ID + client, 5, 5, "k") for client in range(4)})
SENT = RecordDict({ARRAYS: array_record({"w": np.ones(6, np.float32)}), CONFIG: ConfigRecord({"seed": 1})})
DOWN = 6 * 4 + 8


def answer(value: float = 1.0, loss: float = 0.5, needs_base: bool = False) -> RecordDict:
    content = RecordDict({METRICS: MetricRecord({"num-examples": 5, "loss": loss})})
    content[ARRAYS] = array_record({} if needs_base else {"w": np.full(6, value, np.float32)})
    content[FLAGS] = ConfigRecord({"needs-base": needs_base})
    return content


UP = 6 * 4 + 16


def send(
    behave: Behave, timeout: float = 10.0, base: object = None, clients: int = 4, **options: Callable[[Answer], None]
) -> Outcome:
    app = ClientApp()

    @app.train("go")
    def go(message: Message, context: Context) -> Message:
        return Message(behave(int(context.node_config["partition-id"]), message), reply_to=message)

    with LocalGrid(app, clients) as grid:
        contents = dict.fromkeys((2, 0, 1), SENT)
        return exchange(grid, ROSTER, "train.go", contents, timeout, base, **options)  # type: ignore[arg-type]


def test_answers_come_in_the_order_of_clients_and_every_byte_is_counted() -> None:
    taken: list[Answer] = []
    outcome = send(lambda client, message: answer(client), take=taken.append)
    assert [one.client for one in outcome.answers] == [one.client for one in taken] == [0, 1, 2]
    assert taken[2].arrays["w"].tolist() == [2.0] * 6
    assert all(one.message is None and not one.arrays for one in outcome.answers)
    assert outcome.answers[2].metrics == {"num-examples": 5, "loss": 0.5}
    assert outcome.dropped == ()
    # Flags are a word between us, and weigh nothing.
    assert outcome.bytes == {c: {"down": DOWN, "up": UP, "base": 0} for c in (0, 1, 2)}


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (lambda: answer(float("nan")), "client 1 sent an update of 'w', which holds a number that is not finite."),
        (lambda: answer(float("inf")), "client 1 sent an update of 'w', which holds a number that is not finite."),
        (lambda: answer(loss=float("nan")), "client 1 sent the metric 'loss', which holds"),
        (lambda: 1 / 0, "client 1 raised ZeroDivisionError"),
        (lambda: exec("raise SystemExit(4)"), "client 1 left its process with exit status 4"),
        (lambda: time.sleep(3), "client 1 did not answer within 0.5 s"),
    ],
)
def test_a_broken_client_is_dropped_with_a_sentence_and_the_rest_goes_on(bad, sentence) -> None:
    outcome = send(lambda client, message: bad() if client == 1 else answer(), timeout=0.5)
    assert [one.client for one in outcome.answers] == [0, 2]
    [(client, why)] = outcome.dropped
    assert client == 1 and why.startswith(sentence) and "\n" not in why


def test_the_base_is_sent_again_to_whoever_lacks_it_and_counted_apart() -> None:
    def behave(client: int, message: Message) -> RecordDict:
        lacks = client == 2 and BASE not in message.content.array_records
        return answer(needs_base=lacks)

    outcome = send(behave, base=array_record({"b": np.zeros(100, np.float32)}))
    assert [one.client for one in outcome.answers] == [0, 1, 2]
    assert outcome.bytes[2] == {"down": DOWN, "up": UP, "base": 400}
    assert outcome.bytes[0] == {"down": DOWN, "up": UP, "base": 0}


def test_who_lacks_the_base_is_heard_in_its_turn_all_the_same() -> None:
    """Else the sum, and with it the digest, would depend on who happened to keep a base."""
    taken: list[int] = []

    def behave(client: int, message: Message) -> RecordDict:
        return answer(needs_base=client == 0 and BASE not in message.content.array_records)

    base = array_record({"b": np.zeros(100, np.float32)})
    outcome = send(behave, base=base, take=lambda one: taken.append(one.client))
    assert taken == [one.client for one in outcome.answers] == [0, 1, 2]


def test_who_takes_the_answers_may_refuse_one() -> None:
    def take(one: Answer) -> None:
        if one.client == 1:
            raise ClientError("client 1 is not wanted.")

    outcome = send(lambda client, message: answer(), take=take)
    assert [one.client for one in outcome.answers] == [0, 2]
    assert outcome.dropped == ((1, "client 1 is not wanted."),)
    assert outcome.bytes[1] == {"down": DOWN, "up": UP, "base": 0}


@pytest.mark.parametrize("base", [None, array_record({"b": np.zeros(1, np.float32)})])
def test_a_base_that_does_not_arrive_drops_the_client(base) -> None:
    outcome = send(lambda client, message: answer(needs_base=client == 0), base=base)
    assert outcome.dropped == ((0, "client 0 lacks the base model even after it was sent."),)


def test_a_client_that_is_not_there_any_more_is_dropped() -> None:
    outcome = send(lambda client, message: answer(), clients=2)
    assert [one.client for one in outcome.answers] == [0, 1]
    assert outcome.dropped[0][0] == 2


def test_nobody_asked_is_nothing_come() -> None:
    with LocalGrid(ClientApp(), 1) as grid:
        assert exchange(grid, ROSTER, "train.go", {}, 1.0).answers == ()
