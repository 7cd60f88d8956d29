from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedunlearn.errors import RequestError, RunFolderError
from fedunlearn.server.ledger import REQUEST_STATES, Ledger
from fedunlearn.server.ledger_tables import PhaseRow, RequestRow, RoundRow


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    yield ledger
    ledger.close()


def digest(number: int) -> str:
    return f"{number:064x}"


def add_request(ledger: Ledger, id: str = "r1", count: int = 5) -> RequestRow:
    return ledger.add_request(
        id=id,
        scope="classes",
        targets=[3, 1],
        classes=[2],
        count=count,
        commitment="c",
        signature="s",
        arrived_round=4,
    )


def finished_round(number: int, branch: str = "main") -> RoundRow:
    return RoundRow(branch, number, digest(number - 1), digest(number), (0, 1))


def test_request_is_recorded_once(ledger: Ledger) -> None:
    first = add_request(ledger)
    ledger.set_request_state("r1", "running")
    again = add_request(ledger)
    assert (first.state, again.state) == ("pending", "running")
    assert again.targets == (1, 3)
    assert ledger.requests() == [again] == [ledger.request("r1")]
    assert ledger.requests("pending", "failed") == []
    assert [event.kind for event in ledger.events(request_id="r1")] == ["request-arrived", "request-running"]


def test_same_id_for_something_else_is_refused(ledger: Ledger) -> None:
    add_request(ledger)
    with pytest.raises(RequestError, match="already recorded for something else"):
        add_request(ledger, count=6)
    assert ledger.request("r1").count == 5


def test_requests_keep_the_order_of_arrival(ledger: Ledger) -> None:
    for id in ("z", "a", "m"):
        add_request(ledger, id)
    assert [row.id for row in ledger.requests()] == ["z", "a", "m"]


def test_unknown_request_names_the_known(ledger: Ledger) -> None:
    add_request(ledger)
    with pytest.raises(RequestError, match="no request 'r2'; recorded are: r1"):
        ledger.request("r2")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=st.lists(st.sampled_from([*sorted(REQUEST_STATES), "sleeping"]), max_size=6), data=st.data())
def test_done_and_refused_are_final_whatever_is_asked(ledger: Ledger, wanted: list[str], data: st.DataObject) -> None:
    id = f"r{time.monotonic_ns()}"
    state = add_request(ledger, id).state
    moves = 0
    for new in wanted:
        if new == state:
            assert ledger.set_request_state(id, new, "again").reason != "again"
        elif new in REQUEST_STATES[state]:
            assert ledger.set_request_state(id, new, "why").reason == "why"
            state, moves = new, moves + 1
        else:
            with pytest.raises(RequestError, match=f"is {state} and cannot become"):
                ledger.set_request_state(id, new)
        assert ledger.request(id).state == state
    assert len(ledger.events(request_id=id)) == 1 + moves


def test_done_never_goes_back() -> None:
    assert REQUEST_STATES["done"] == frozenset()
    assert all(following <= set(REQUEST_STATES) for following in REQUEST_STATES.values())


def test_branches(ledger: Ledger) -> None:
    main = ledger.create_branch("main", "training", digest(0), settings={"ratio": (0.1, np.float32(0.5))})
    ledger.create_branch("r1", "unlearning", digest(0), request_id="r1")
    assert ledger.create_branch("main", "training", digest(9)) == main == ledger.branch("main")
    assert main.settings == {"ratio": [0.1, 0.5]}
    assert [row.name for row in ledger.branches()] == ["main", "r1"]
    assert [row.name for row in ledger.branches("r1")] == ["r1"]
    assert ledger.branch("none") is None
    assert ledger.set_branch_state("r1", "done").state == "done"
    with pytest.raises(RunFolderError, match="expected one of running, done, failed"):
        ledger.set_branch_state("r1", "sleeping")
    with pytest.raises(RunFolderError, match="already exists"):
        ledger.create_branch("main", "unlearning", digest(0))
    with pytest.raises(RunFolderError, match="no branch 'none'; recorded are: main, r1"):
        ledger.set_branch_state("none", "done")


def test_moving_a_head_is_an_event_once(ledger: Ledger) -> None:
    ledger.create_branch("main", "training", digest(0))
    for _ in range(2):
        assert ledger.move_head("main", digest(5), "served", {"request": "r1"}).head == digest(5)
    (event,) = ledger.events("served")
    assert event.detail == {"request": "r1", "branch": "main", "from": digest(0), "to": digest(5)}


def test_round_is_read_back_as_recorded(ledger: Ledger) -> None:
    ledger.create_branch("main", "training", digest(0))
    row = replace(
        finished_round(1),
        dropped=((4, "client 4 did not answer within 60 s"),),
        bytes={"train.ordinary": {"up": np.int64(10), "down": 20}},
        metrics={"loss": float("nan"), "by_class": np.array([0.5, 1.0], dtype=np.float32)},
        seconds=1.5,
        extras="e",
    )
    recorded = ledger.record_round(row)
    assert ledger.rounds("main") == [recorded] == [ledger.last_round("main")]
    assert recorded.participants == (0, 1)
    assert recorded.dropped == ((4, "client 4 did not answer within 60 s"),)
    assert recorded.bytes == {"train.ordinary": {"up": 10, "down": 20}}
    assert recorded.metrics == {"loss": None, "by_class": [0.5, 1.0]}
    assert recorded.recorded != ""
    assert ledger.last_round("none") is None


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.lists(st.integers(1, 5), max_size=8))
def test_only_the_next_round_is_added_and_a_redo_changes_nothing(ledger: Ledger, numbers: list[int]) -> None:
    branch = f"b{time.monotonic_ns()}"
    ledger.create_branch(branch, "training", digest(0))
    last = 0
    for number in numbers:
        if number <= last + 1:
            ledger.record_round(finished_round(number, branch))
            last = max(last, number)
        else:
            with pytest.raises(RunFolderError, match="cannot be recorded"):
                ledger.record_round(finished_round(number, branch))
    assert [row.number for row in ledger.rounds(branch)] == list(range(1, last + 1))
    row = ledger.branch(branch)
    assert row is not None and row.head == digest(last)


def test_rounds_that_do_not_fit_are_refused(ledger: Ledger) -> None:
    with pytest.raises(RunFolderError, match="no branch 'main'"):
        ledger.record_round(finished_round(1))
    ledger.create_branch("main", "training", digest(0))
    ledger.record_round(finished_round(1))
    with pytest.raises(RunFolderError, match="recorded already with model"):
        ledger.record_round(replace(finished_round(1), digest_after=digest(7)))
    with pytest.raises(RunFolderError, match="the last one is 1, so that 2 is next"):
        ledger.record_round(replace(finished_round(3), digest_before=digest(1)))
    with pytest.raises(RunFolderError, match="run it again from there"):
        ledger.record_round(replace(finished_round(2), digest_before=digest(0)))
    assert len(ledger.rounds("main")) == 1


def test_phases_are_recorded_once_and_move_the_head(ledger: Ledger) -> None:
    ledger.create_branch("r1", "unlearning", digest(0))
    ledger.record_phase(PhaseRow("r1", "attribute", digest(0), digest(0), {"mask": {"conv": [1, 2]}}))
    forget = ledger.record_phase(PhaseRow("r1", "forget", digest(0), digest(1)))
    again = ledger.record_phase(PhaseRow("r1", "attribute", digest(0), digest(0), {"mask": {}}))
    assert again.result == {"mask": {"conv": [1, 2]}}
    assert [row.name for row in ledger.phases("r1")] == ["attribute", "forget"]
    assert ledger.phase("r1", "forget") == forget
    assert ledger.phase("r1", "recover") is None
    with pytest.raises(RunFolderError, match="recorded already"):
        ledger.record_phase(replace(forget, digest_after=digest(2)))
    with pytest.raises(RunFolderError, match="run it again from there"):
        ledger.record_phase(PhaseRow("r1", "recover", digest(0), digest(2)))


def test_transaction_is_all_or_nothing(ledger: Ledger) -> None:
    ledger.create_branch("main", "training", digest(0))
    add_request(ledger)
    with pytest.raises(ValueError), ledger.transaction():
        ledger.record_round(finished_round(1))
        ledger.set_request_state("r1", "running")
        assert len(ledger.rounds("main")) == 1  # seen from inside
        raise ValueError
    assert ledger.rounds("main") == []
    assert ledger.request("r1").state == "pending"
    with ledger.transaction():
        ledger.record_round(finished_round(1))
        ledger.set_request_state("r1", "running")
    assert len(ledger.rounds("main")) == 1
    assert ledger.request("r1").state == "running"


def test_events_are_append_only_even_past_the_api(ledger: Ledger) -> None:
    assert ledger.append_event("started", {"pid": 3}) < ledger.append_event("stopped")
    for statement in ("UPDATE events SET kind = 'x'", "DELETE FROM events"):
        with pytest.raises(RunFolderError, match="append-only"), ledger._database.write() as connection:
            connection.exec_driver_sql(statement)
    assert [event.kind for event in ledger.events()] == ["started", "stopped"]
    assert [event.detail for event in ledger.events("started")] == [{"pid": 3}]


def test_a_clients_key_is_the_one_of_first_contact(ledger: Ledger) -> None:
    ledger.register_key(3, "key")
    ledger.register_key(3, "key")
    with pytest.raises(RequestError, match="client 3 came with another key"):
        ledger.register_key(3, "other")


def test_second_opening_sees_everything(ledger: Ledger, tmp_path: Path) -> None:
    add_request(ledger)
    other = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    assert other.requests() == ledger.requests()
    other.set_request_state("r1", "refused", "too old")
    assert ledger.request("r1").reason == "too old"
    other.close()


APPEND = """
import sys
from fedunlearn.server.ledger import Ledger
from fedunlearn.server.ledger_tables import RoundRow
ledger = Ledger(sys.argv[1])
ledger.create_branch("main", "training", f"{0:064x}")
last = ledger.last_round("main")
number = 0 if last is None else last.number
while True:
    with ledger.transaction():
        ledger.record_round(RoundRow("main", number + 1, f"{number:064x}", f"{number + 1:064x}", (0,)))
        ledger.append_event("round", {"number": number + 1})
    number += 1
    print(number, flush=True)
"""


def test_killed_while_appending_loses_nothing_and_doubles_nothing(tmp_path: Path, start_script: Any) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    draw = random.Random(0)
    acknowledged = 0
    for _ in range(5):
        process = start_script(APPEND, url)
        before = acknowledged
        for _ in range(draw.randint(1, 8)):
            acknowledged = int(process.stdout.readline())
        time.sleep(draw.uniform(0, 0.01))
        process.kill()
        acknowledged = int((process.stdout.read().split() or [acknowledged])[-1])
        process.wait()
        ledger = Ledger(url)
        numbers = [row.number for row in ledger.rounds("main")]
        branch = ledger.branch("main")
        assert acknowledged > before
        assert numbers == list(range(1, len(numbers) + 1))
        assert acknowledged <= len(numbers) <= acknowledged + 1
        assert [event.detail["number"] for event in ledger.events("round")] == numbers
        assert branch is not None and branch.head == digest(numbers[-1])
        ledger.close()


ADD_EVENTS = """
import sys
from fedunlearn.server.ledger import Ledger
sys.stdin.readline()
ledger = Ledger(sys.argv[1])
for number in range(20):
    ledger.append_event(sys.argv[2], {"number": number})
"""


def test_processes_that_open_and_write_at_once(tmp_path: Path, start_script: Any) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    writers = {kind: start_script(ADD_EVENTS, url, kind) for kind in ("a", "b", "c")}
    for process in writers.values():
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in writers.values():
        assert process.wait(20) == 0
    ledger = Ledger(url)
    for kind in writers:
        assert [event.detail["number"] for event in ledger.events(kind)] == list(range(20))
    ledger.close()
