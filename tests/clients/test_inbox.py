from __future__ import annotations

import hashlib
import json
import random
import stat
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedunlearn.clients.inbox import FiledRequest, Inbox, commitment
from fedunlearn.errors import RequestError, RunFolderError

POSITIONS = st.lists(st.integers(0, 60), min_size=1, max_size=8)


def test_filed_request_is_pending(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    request = FiledRequest.make(3, "classes", [9, 4, 4], classes=[7, 1])
    assert inbox.file(request) == request.id
    assert inbox.pending() == [request] == Inbox(tmp_path).all()
    assert (request.positions, request.classes, request.state) == ((4, 9), (1, 7), "pending")
    assert stat.S_IMODE((tmp_path / "inbox" / f"{request.id}.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("scope", "positions", "classes", "sentence"),
    [
        ("all", [1], None, "is not a scope"),
        ("client", [], None, "names no sample"),
        ("samples", [-1, 3], None, "sample -1 of client 0 does not exist"),
        ("samples", [1], [2], "and none for the others"),
        ("classes", [1], None, "name at least one class"),
        ("class-everywhere", [1], [], "name at least one class"),
    ],
)
def test_malformed_requests(scope: str, positions: list[int], classes: list[int] | None, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        FiledRequest.make(0, scope, positions, classes)


def test_filing_again_returns_the_first_unless_it_was_refused(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    first = inbox.file(FiledRequest.make(0, "samples", [1, 2]))
    assert inbox.file(FiledRequest.make(0, "samples", [2, 1])) == first
    inbox.acknowledge(first, "running")
    inbox.acknowledge(first, "done")
    assert inbox.file(FiledRequest.make(0, "samples", [1, 2])) == first
    other = inbox.file(FiledRequest.make(0, "samples", [1, 3]))
    inbox.acknowledge(other, "refused", "not now")
    assert inbox.file(FiledRequest.make(0, "samples", [1, 3])) not in (first, other)
    assert len(inbox.all()) == 3


def test_id_shared_between_clients_is_taken_once(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    request = FiledRequest.make(0, "class-everywhere", [1], classes=[2], id="everywhere")
    assert inbox.file(request) == inbox.file(request) == "everywhere"
    with pytest.raises(RequestError, match="already filed for something else"):
        inbox.file(FiledRequest.make(0, "samples", [5], id="everywhere"))
    assert inbox.all() == [request]


@settings(max_examples=15, deadline=None)
@given(filed=st.lists(st.tuples(POSITIONS, st.sampled_from(["pending", "running", "done", "failed", "refused"]))))
def test_all_but_the_refused_are_out(tmp_path_factory: pytest.TempPathFactory, filed: list) -> None:
    inbox = Inbox(tmp_path_factory.mktemp("client"))
    out: set[int] = set()
    for number, (positions, state) in enumerate(filed):
        request = FiledRequest.make(0, "classes", positions, classes=[number])  # all differ
        inbox.acknowledge(inbox.file(request), state)
        out |= set(positions) if state != "refused" else set()
    forgotten = inbox.forgotten_positions()
    assert forgotten.dtype == np.int64
    assert forgotten.tolist() == sorted(out)


def test_final_states_stay(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    id = inbox.file(FiledRequest.make(0, "client", [1]))
    inbox.acknowledge(id, "done", "forgotten")
    inbox.acknowledge(id, "done", "said again")
    with pytest.raises(RequestError, match=r"is done and cannot become 'refused'.*it is final"):
        inbox.acknowledge(id, "refused")
    assert (inbox.get(id).state, inbox.get(id).reason) == ("done", "forgotten")
    assert inbox.pending() == [] == inbox.announcements()


@pytest.mark.parametrize("id", ["../../../etc/passwd", "", "a/b"])
def test_server_cannot_name_other_files(tmp_path: Path, id: str) -> None:
    with pytest.raises(RequestError, match="is not a request id"):
        Inbox(tmp_path).acknowledge(id, "done")


def test_unknown_request(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no request abc is filed"):
        Inbox(tmp_path).get("abc")


def test_announcement_is_signed_and_shows_no_sample(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    request = FiledRequest.make(5, "samples", [123456, 234567, 345678])
    inbox.file(request)
    (announcement,) = inbox.announcements()
    announcement.verify(announcement.public_key)
    assert set(asdict(announcement)) == {
        "id", "client", "scope", "classes", "count", "commitment", "public_key", "signature", "holders",
    }  # fmt: skip
    assert (announcement.client, announcement.count) == (5, 3)
    sent = json.dumps(asdict(announcement))
    assert request.salt not in sent
    assert not any(str(position) in sent for position in request.positions)


def test_commitment_is_the_hash_of_salt_and_positions() -> None:
    salt = "ab" * 32
    by_hand = hashlib.sha256(b"fedunlearn-positions-1" + b"\xab" * 32 + bytes([2] + [0] * 7) + bytes([1, 1] + [0] * 6))
    assert commitment(salt, [257, 2]) == by_hand.hexdigest() == commitment(salt, np.array([2, 257]))
    assert commitment("cd" * 32, [257, 2]) != commitment(salt, [257, 2]) != commitment(salt, [257])


def test_salts_differ_so_that_equal_requests_do_not_show(tmp_path: Path) -> None:
    first, second = (Inbox(tmp_path / name) for name in "ab")
    for inbox in (first, second):
        inbox.file(FiledRequest.make(0, "samples", [1, 2]))
    assert first.announcements()[0].commitment != second.announcements()[0].commitment


@pytest.mark.parametrize(
    "damage",
    ["", "[]", "{}", '{"state": "sleeping"}', '{"id": "other"}', '{"positions": null}', '{"scope": "all"}'],
)
def test_damaged_request_stops_the_client_rather_than_bring_samples_back(tmp_path: Path, damage: str) -> None:
    inbox = Inbox(tmp_path)
    id = inbox.file(FiledRequest.make(0, "samples", [1, 2]))
    path = tmp_path / "inbox" / f"{id}.json"
    change = json.loads(damage) if damage else None
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({**whole, **change}) if change else damage)
    with pytest.raises(RunFolderError, match="put back a copy of it"):
        inbox.forgotten_positions()


FILE_REQUESTS = """
import sys
from pathlib import Path
from fedunlearn.clients.inbox import FiledRequest, Inbox
inbox = Inbox(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    number += 1
    id = inbox.file(FiledRequest.make(0, "samples", [number]))
    inbox.acknowledge(id, "running")
    print(number, flush=True)
"""


def test_killed_while_filing_loses_nothing(tmp_path: Path, start_script: Any) -> None:
    draw = random.Random(0)
    acknowledged = 0
    for _ in range(3):
        process = start_script(FILE_REQUESTS, tmp_path, acknowledged)
        for _ in range(draw.randint(1, 6)):
            acknowledged = int(process.stdout.readline())
        time.sleep(draw.uniform(0, 0.005))
        process.kill()
        acknowledged = int((process.stdout.read().split() or [acknowledged])[-1])
        process.wait()
        inbox = Inbox(tmp_path)
        out = inbox.forgotten_positions().tolist()
        assert out == list(range(1, len(out) + 1))
        assert acknowledged <= len(out) <= acknowledged + 1
        assert len(inbox.all()) == len(out)
        assert len(inbox.pending()) <= 1
