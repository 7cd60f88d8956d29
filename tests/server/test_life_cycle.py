from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fedunlearn.announcement import Announcement
from fedunlearn.clients.inbox import FiledRequest, Inbox
from fedunlearn.clients.keys import ClientKey
from fedunlearn.server.ledger import Ledger
from fedunlearn.server.life_cycle import DeletionRequest, incomplete, register_keys, sort_out, take_in
from fedunlearn.strategies.roster import Member, Roster


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")


@pytest.fixture
def announce(tmp_path: Path) -> Callable[..., Announcement]:
    def make(
        client: int, id: str, classes: tuple[int, ...] = (3,), scope: str = "classes", holders: int = 1
    ) -> Announcement:
        inbox = Inbox(tmp_path / str(client))
        request = FiledRequest.make(client, scope, [1, 2, 3 + client], classes, id, holders)
        inbox.file(request)
        return inbox.announcement(inbox.get(id))

    return make


def roster(tmp_path: Path, *announced: Announcement, clients: int = 3, retained: int = 9) -> Roster:
    members = {
        client: Member(client, 1000 + client, 10, retained, ClientKey.of(tmp_path / str(client)).public_key)
        for client in range(clients)
    }
    return Roster(members, announced)


def test_a_request_is_taken_in_once(tmp_path: Path, ledger: Ledger, announce) -> None:
    one = announce(0, "client-0-1")
    [row] = take_in(ledger, roster(tmp_path, one), 4)
    assert (row.state, row.targets, row.classes, row.count, row.arrived_round) == ("pending", (0,), (3,), 3, 4)
    assert take_in(ledger, roster(tmp_path, one), 9) == [row]
    assert DeletionRequest.of(row) == DeletionRequest("client-0-1", "classes", (0,), (3,), 3, "pending")
    assert len(ledger.events("request-arrived")) == 1
    assert take_in(ledger, roster(tmp_path), 5) == []


def test_parts_of_one_request_are_one_request(tmp_path: Path, ledger: Ledger, announce) -> None:
    parts = [announce(c, "class-3-5", classes, "class-everywhere") for c, classes in ((0, (3,)), (2, (3, 5)))]
    [row] = take_in(ledger, roster(tmp_path, *parts), 0)
    assert (row.targets, row.classes, row.count) == ((0, 2), (3, 5), 6)
    # One of them has heard of it already, and announces it no more.
    ledger.set_request_state(row.id, "running")
    [again] = take_in(ledger, roster(tmp_path, parts[1]), 0)
    assert (again.state, again.targets) == ("running", (0, 2))


def _one_bit_changed(signature: str) -> str:
    raw = bytearray(b64decode(signature))
    raw[-1] ^= 1
    return b64encode(raw).decode()


@pytest.mark.parametrize(
    "forge",
    [
        lambda one: replace(one, count=1),
        lambda one: replace(one, classes=(4,)),
        lambda one: replace(one, commitment="0" * 64),
        lambda one: replace(one, signature=_one_bit_changed(one.signature)),
        lambda one: replace(one, signature=""),
    ],
)
def test_a_forged_request_is_refused(tmp_path: Path, ledger: Ledger, announce, forge) -> None:
    [row] = take_in(ledger, roster(tmp_path, forge(announce(0, "client-0-1"))), 0)
    assert row.state == "refused" and "not signed with the key" in row.reason


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"client": 1}, "its id is one of client 0"),
        ({"id": "client-2-1"}, "its id is one of client 2"),
        ({"id": "../client-0-1"}, "is not a request id"),
        ({"id": "x" * 65}, "is not a request id"),
        ({"scope": "everything"}, "is not a scope"),
        ({"scope": "client"}, "its scope is 'client' and its classes are (3,)"),
        ({"classes": None}, "its classes are None"),
        ({"classes": (4, 3)}, "are not sorted and distinct"),
        ({"classes": (3, 3)}, "are not sorted and distinct"),
        ({"classes": (-1,)}, "are not sorted and distinct"),
        ({"count": 0}, "it is for 0 samples"),
        ({"count": -5}, "it is for -5 samples"),
        ({"holders": 0}, "of 0 clients"),
        ({"commitment": "samples 1, 2 and 3"}, "its commitment is no SHA-256"),
    ],
)
def test_a_malformed_announcement_is_ignored_and_written_down_once(
    tmp_path: Path, ledger: Ledger, announce, change: dict, why: str
) -> None:
    sound, malformed = announce(2, "client-2-7"), replace(announce(0, "client-0-1"), **change)
    for _ in range(2):
        assert [row.id for row in take_in(ledger, roster(tmp_path, malformed, sound), 0)] == ["client-2-7"]
    [event] = ledger.events("announcement-ignored")
    assert why in event.detail["why"] and event.detail["client"] == malformed.client


def test_one_id_in_several_versions_is_nobodys_request(tmp_path: Path, ledger: Ledger, announce) -> None:
    one = announce(0, "client-0-1")
    twice = [one, one, replace(one, count=4)]
    assert take_in(ledger, roster(tmp_path, *twice), 0) == []
    assert len(take_in(ledger, roster(tmp_path, one, one), 0)) == 1  # said twice is said once


def test_a_foreign_client_does_not_take_an_id(tmp_path: Path, ledger: Ledger, announce) -> None:
    mine, foreign = announce(0, "abcdef012345"), announce(1, "abcdef012345")
    sound, ignored = sort_out([mine, foreign])
    assert sound == [] and len(ignored) == 2 and "from several clients" in ignored[0][1]
    [row] = take_in(ledger, roster(tmp_path, mine), 0)
    assert take_in(ledger, roster(tmp_path, foreign), 0) == [row] and row.targets == (0,)


def test_a_class_is_forgotten_everywhere_or_not_yet(tmp_path: Path, ledger: Ledger, announce) -> None:
    parts = [announce(c, "class-3", (3,), "class-everywhere", holders=2) for c in (0, 2)]
    assert incomplete(parts[:1]) == {"class-3": (1, 2)} and incomplete(parts) == {}
    assert take_in(ledger, roster(tmp_path, parts[0]), 0) == []
    [row] = take_in(ledger, roster(tmp_path, *parts), 0)
    assert (row.targets, row.state) == ((0, 2), "pending")
    # One of them has heard of it already, and announces it no more.
    assert take_in(ledger, roster(tmp_path, parts[1]), 0) == [row]


def test_what_was_signed_can_be_checked_later(tmp_path: Path, ledger: Ledger, announce) -> None:
    one = announce(0, "client-0-1")
    take_in(ledger, roster(tmp_path, one), 0)
    [part] = ledger.events("request-arrived")[0].detail["parts"]
    assert part == {
        "client": 0,
        "classes": [3],
        "count": 3,
        "commitment": one.commitment,
        "signature": one.signature,
        "holders": 1,
    }


def test_another_key_than_the_registered_one_is_refused(tmp_path: Path, ledger: Ledger, announce) -> None:
    assert register_keys(ledger, roster(tmp_path)) == {}
    (tmp_path / "1" / "key.pem").unlink()
    foreign = announce(1, "client-1-1")
    sound = announce(0, "client-0-1")
    rows = take_in(ledger, roster(tmp_path, foreign, sound), 0)
    assert [(row.id, row.state) for row in rows] == [("client-0-1", "pending"), ("client-1-1", "refused")]
    assert "another key" in rows[1].reason


def test_nobody_would_be_left(tmp_path: Path, ledger: Ledger, announce) -> None:
    [row] = take_in(ledger, roster(tmp_path, announce(0, "client-0-1"), retained=0), 0)
    assert row.state == "refused" and "without data" in row.reason


def test_an_announcement_that_is_not_what_was_recorded_changes_nothing(
    tmp_path: Path, ledger: Ledger, announce
) -> None:
    first = announce(0, "class-3", (3,), "class-everywhere")
    take_in(ledger, roster(tmp_path, first), 0)
    late = announce(1, "class-3", (3,), "class-everywhere")
    for _ in range(2):
        [row] = take_in(ledger, roster(tmp_path, first, late), 0)
        assert (row.targets, row.state) == ((0,), "pending")
    [event] = ledger.events("announcement-ignored", "class-3")
    assert event.detail["client"] == 1
