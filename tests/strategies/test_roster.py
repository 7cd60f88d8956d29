from __future__ import annotations

from collections.abc import Callable

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedunlearn.engines.local import FIRST_NODE_ID, LocalGrid
from fedunlearn.errors import ClientError
from fedunlearn.strategies.content import CONFIG
from fedunlearn.strategies.roster import Member, Roster, call_roll

NOTHING: dict = {name: [] for name in ("ids", "scopes", "classes", "counts", "commitments", "signatures")}


def app(say: Callable[[int], dict]) -> ClientApp:
    made = ClientApp()

    @made.query("requests")
    def requests(message: Message, context: Context) -> Message:
        client = int(context.node_config["partition-id"])
        said = {"client": client, "samples": 9, "retained": client, "public-key": "k", **NOTHING, **say(client)}
        return Message(RecordDict({CONFIG: ConfigRecord(said)}), reply_to=message)

    return made


def roll(say: Callable[[int], dict], clients: int = 3) -> Roster:
    with LocalGrid(app(say), clients) as grid:
        return call_roll(grid, 10.0)


def test_who_is_there_and_who_still_has_samples() -> None:
    roster = roll(lambda client: {})
    assert roster.members[2] == Member(2, FIRST_NODE_ID + 2, 9, 2, "k")
    assert roster.retaining() == (1, 2)


def test_who_fails_is_not_there() -> None:
    def say(client: int) -> dict:
        if client == 1:
            raise ValueError("no disk")
        return {}

    found = roll(say)
    assert sorted(found.members) == [0, 2]
    assert found.absent == ("client 1 raised ValueError: no disk",)


def test_nobody_is_an_error_with_the_first_reason() -> None:
    def say(client: int) -> dict:
        raise ValueError("no disk")

    with pytest.raises(ClientError, match="none of the 3 clients answered: client 0 raised ValueError"):
        roll(say)


def test_two_nodes_cannot_be_one_client() -> None:
    with pytest.raises(ClientError, match="two nodes say that they are client 7"):
        roll(lambda client: {"client": 7})


def test_a_number_must_be_one() -> None:
    with pytest.raises(ClientError, match="announced 'samples'"):
        roll(lambda client: {"samples": "many"})


def test_announcements_are_read_in_order_of_id_and_client() -> None:
    def say(client: int) -> dict:
        one = {"ids": ["class-1"], "scopes": ["class-everywhere"], "classes": ["1,4"], "counts": [5]}
        return {**one, "commitments": ["c"], "signatures": ["s"]} if client != 1 else {}

    announced = roll(say).announced
    assert [(one.id, one.client, one.classes, one.count) for one in announced] == [
        ("class-1", 0, (1, 4), 5),
        ("class-1", 2, (1, 4), 5),
    ]


def test_a_later_roll_replaces_members_and_announcements() -> None:
    first = roll(lambda client: {})
    with LocalGrid(app(lambda client: {"retained": 0}), 3) as grid:
        later = call_roll(grid, 10.0, [FIRST_NODE_ID + 2])
        assert call_roll(grid, 10.0, []) == Roster({})
    joined = first.joined_by(later)
    assert sorted(joined.members) == [0, 1, 2]
    assert joined.retaining() == (1,)
