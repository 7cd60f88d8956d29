from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedunlearn.errors import RunFolderError
from fedunlearn.server import ledger_chain as chain
from fedunlearn.server.ledger import Ledger
from fedunlearn.server.ledger_chain import BEFORE_FIRST, Entry
from fedunlearn.server.ledger_verify import verify_chain

RUN = "ab" * 16


def test_every_change_is_an_entry_that_follows_the_one_before(filled: Ledger) -> None:
    entries = filled.entries()
    assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))
    assert entries[0].previous == BEFORE_FIRST
    assert [entry.previous for entry in entries[1:]] == [entry.hash for entry in entries[:-1]]
    assert all(entry.computed_hash() == entry.hash for entry in entries)
    assert [entry.kind for entry in entries] == [
        "ledger-begun",
        "branch",
        "client-key",
        "round",
        "round",
        "request",
        "event",
        "request-state",
        "event",
        "branch",
        "phase",
        "round",
        "head",
        "event",
        "request-state",
        "event",
        "branch-state",
        "event",
        "event",
    ]
    assert filled.last_entry() == entries[-1]
    assert entries[0].content() == {"format": 2, "run": RUN, "before": None, "rows": {}}


def test_a_rounds_entry_says_who_took_part_with_what(filled: Ledger) -> None:
    first = filled.entries("round")[0].content()
    assert first["participants"] == [0, 1] and first["seed"] == 2**63 - 1 and first["seconds"] == 0.1 + 0.2
    assert (first["digest_before"], first["digest_after"]) == ("0" * 64, f"{1:064x}")
    assert filled.entries("round")[2].content()["mask"] == f"{99:064x}"


def test_what_changes_nothing_is_no_entry(filled: Ledger, fill: Callable[[Ledger], None]) -> None:
    before = filled.last_entry()
    filled.set_branch_state("r1/unlearned", "done")
    filled.set_request_state("r1", "done")
    filled.move_head("main", f"{3:064x}", "served")
    filled.register_key(0, "key of 0")
    assert filled.last_entry() == before


def test_what_is_undone_leaves_no_entry(filled: Ledger) -> None:
    before = filled.last_entry()
    with pytest.raises(ZeroDivisionError), filled.transaction():
        filled.append_event("one")
        raise ZeroDivisionError
    assert filled.last_entry() == before
    filled.append_event("two")
    assert verify_chain(filled.entries()) == []


def test_an_entry_is_read_back_from_its_line(filled: Ledger) -> None:
    for entry in filled.entries():
        assert Entry.of(json.loads(entry.line())) == entry


@pytest.mark.parametrize("change", [{"number": "1"}, {"number": True}, {"extra": 1}, {"body": {}}, {"hash": None}])
def test_what_is_no_entry_is_refused(filled: Ledger, change: dict) -> None:
    with pytest.raises(ValueError):
        Entry.of({**json.loads(filled.entries()[0].line()), **change})


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    detail=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])),
        st.floats() | st.integers() | st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    )
)
def test_whatever_is_recorded_is_chained_and_read_back(filled: Ledger, detail: dict) -> None:
    filled.append_event("anything", detail)
    last = filled.last_entry()
    assert last is not None and last.computed_hash() == last.hash
    assert last.content()["detail"] == dict(filled.events("anything")[-1].detail)


def test_a_ledger_whose_entries_were_deleted_records_nothing(filled: Ledger, tampered: Callable) -> None:
    with tampered() as database:
        database.execute("DELETE FROM entries")
    with pytest.raises(RunFolderError, match="entries have been deleted"):
        filled.append_event("anything")
    assert filled.entries() == [] and len(filled.events()) == 6


def test_entries_are_append_only_even_past_the_api(filled: Ledger) -> None:
    for statement in ("UPDATE entries SET kind = 'x'", "DELETE FROM entries"):
        with pytest.raises(RunFolderError, match="append-only"), filled._database.write() as connection:
            connection.exec_driver_sql(statement)
    assert verify_chain(filled.entries()) == []


def test_a_run_has_its_own_ledger(filled: Ledger, ledger_path: Path) -> None:
    assert filled.run == RUN
    with pytest.raises(RunFolderError, match=f"is that of run {RUN}, not of run {'cd' * 16}"):
        Ledger(f"sqlite:///{ledger_path}", "cd" * 16)
    assert Ledger(f"sqlite:///{ledger_path}").run == RUN


def test_the_first_entry_states_what_was_there_before(tmp_path: Path) -> None:
    rows = {"requests": [], "client_keys": [{"client": 0, "public_key": "k", "registered": "t"}]}
    ledger = Ledger(f"sqlite:///{tmp_path}/a.sqlite")
    with ledger._database.write() as connection:
        connection.exec_driver_sql("DROP TRIGGER entries_no_delete")
        connection.exec_driver_sql("DELETE FROM entries")
        chain.begin(connection, RUN, rows)
    first, second = ledger.entries()
    assert first.content()["before"] == chain.rows_digest(rows) and first.content()["rows"] == {"client_keys": 1}
    assert second.content() == {"table": "client_keys", "row": rows["client_keys"][0]}
