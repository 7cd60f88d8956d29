from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedunlearn.server.ledger import REQUEST_STATES, Ledger
from fedunlearn.server.ledger_database import plain
from fedunlearn.server.ledger_replay import replay
from fedunlearn.server.ledger_tables import EventRow, RoundRow


def columns(row: object) -> dict:
    """A row without the number that the database gives to an event."""
    left_out = "id" if isinstance(row, EventRow) else None
    return plain({name: value for name, value in asdict(row).items() if name != left_out})  # type: ignore[call-overload]


def same(ledger: Ledger) -> None:
    """The tables that follow from the entries are those that the ledger answers from."""
    found = replay(ledger.entries())
    assert found.unreadable == []
    assert found.table("requests") == [columns(row) for row in ledger.requests()]
    assert found.table("branches") == [columns(row) for row in ledger.branches()]
    assert found.table("events") == [columns(row) for row in ledger.events()]
    rounds = sorted(found.table("rounds"), key=lambda row: (row["branch"], row["number"]))
    branches = sorted(branch.name for branch in ledger.branches())
    assert rounds == [columns(row) for branch in branches for row in ledger.rounds(branch)]


def test_the_tables_follow_from_the_entries(filled: Ledger) -> None:
    same(filled)


steps = st.one_of(
    st.tuples(st.just("event"), st.sampled_from("ab"), st.floats()),
    st.tuples(st.just("request"), st.sampled_from("rst"), st.just(0.0)),
    st.tuples(st.just("state"), st.sampled_from("rst"), st.integers(0, 4)),
    st.tuples(st.just("round"), st.sampled_from("mn"), st.floats(0, 1e9)),
    st.tuples(st.just("head"), st.sampled_from("mn"), st.integers(0, 9)),
    st.tuples(st.just("branch-state"), st.sampled_from("mn"), st.booleans()),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(steps, max_size=15))
def test_whatever_is_recorded_the_tables_follow(tmp_path_factory, done: list) -> None:
    folder: Path = tmp_path_factory.mktemp("ledger")
    ledger = Ledger(f"sqlite:///{folder}/ledger.sqlite")
    for name in "mn":
        ledger.create_branch(name, "main", f"{0:064x}")
    numbers = dict.fromkeys("mn", 0)
    for what, name, value in done:
        branch = ledger.branch(name)
        if what == "event":
            ledger.append_event(name, {"value": value})
        elif what == "request":
            ledger.add_request(
                id=name,
                scope="client",
                targets=[1],
                classes=None,
                count=1,
                commitment="c",
                signature="s",
                arrived_round=0,
            )
        elif what == "state" and ledger.has_request(name):
            following = sorted(REQUEST_STATES[ledger.request(name).state])
            if following:
                ledger.set_request_state(name, following[int(value) % len(following)], "why")
        elif what == "round" and branch is not None:
            numbers[name] += 1
            ledger.record_round(
                RoundRow(name, numbers[name], branch.head, f"{numbers[name]:064x}", (0,), seconds=value)
            )
        elif what == "head" and branch is not None:
            ledger.move_head(name, f"{int(value):064x}", "moved")
        elif what == "branch-state" and branch is not None:
            ledger.set_branch_state(name, "done" if value else "failed")
    same(ledger)
    ledger.close()


def test_what_cannot_be_read_is_noted(filled: Ledger) -> None:
    entries = filled.entries()
    entries[3] = replace(entries[3], body="{}")
    entries[4] = replace(entries[4], body="no JSON")
    entries[-1] = replace(entries[-1], kind="branch-state", body=json.dumps({"name": "none", "state": "done"}))
    assert replay(entries).unreadable == [4, 5, len(entries)]


def test_a_row_is_inserted_once(filled: Ledger) -> None:
    entries = filled.entries()
    again = [*entries, replace(entries[3], number=99)]
    assert replay(again).unreadable == [99]
