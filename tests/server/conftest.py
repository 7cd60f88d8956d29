"""A small ledger with some of everything, and ways to tamper with it past the API."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from fedunlearn.server.ledger import Ledger
from fedunlearn.server.ledger_chain import Entry
from fedunlearn.server.ledger_tables import PhaseRow, RoundRow

RUN = "ab" * 16


@pytest.fixture
def ledger_path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def filled(ledger_path: Path) -> Iterator[Ledger]:
    """A ledger with two rounds, a request that was served in a branch, keys and events."""
    ledger = Ledger(f"sqlite:///{ledger_path}", RUN)
    _fill(ledger)
    yield ledger
    ledger.close()


@pytest.fixture
def fill() -> Callable[[Ledger], None]:
    """Writes into any ledger what `filled` holds."""
    return _fill


@pytest.fixture
def tampered(ledger_path: Path) -> Callable[[], AbstractContextManager[sqlite3.Connection]]:
    """The ledger's database, open to somebody who owns its file: triggers are no hindrance there."""
    return lambda: _tampered(ledger_path)


@pytest.fixture
def rechained() -> Callable[[list[Entry], int], list[Entry]]:
    """Entries with numbers and hashes from one place on computed anew, as a forger would."""
    return _rechained


@pytest.fixture
def replace_entries() -> Callable[[sqlite3.Connection, list[Entry]], None]:
    """Puts other entries into a database."""
    return _store


def digest(number: int) -> str:
    return f"{number:064x}"


def _fill(ledger: Ledger) -> None:
    ledger.create_branch("main", "main", digest(0))
    ledger.register_key(0, "key of 0")
    for number in (1, 2):
        ledger.record_round(
            RoundRow("main", number, digest(number - 1), digest(number), (0, 1), seed=2**63 - 1, seconds=0.1 + 0.2)
        )
    ledger.add_request(
        id="r1",
        scope="classes",
        targets=[1],
        classes=[2],
        count=5,
        commitment="c",
        signature="s",
        arrived_round=2,
    )
    ledger.set_request_state("r1", "running")
    ledger.create_branch("r1/unlearned", "unlearned", digest(2), "r1", {"method": "fine-tune", "start": digest(2)})
    ledger.record_phase(PhaseRow("r1/unlearned", "0:query", digest(2), digest(2), {"phase": 0, "extras": None}))
    ledger.record_round(replace(RoundRow("r1/unlearned", 1, digest(2), digest(3), (0,)), mask=digest(99)))
    with ledger.transaction():
        ledger.move_head("main", digest(3), "unlearned-model-served", {"request": "r1"})
        ledger.set_request_state("r1", "done")
    ledger.set_branch_state("r1/unlearned", "done")
    ledger.append_event("client-dropped", {"client": 1, "why": 'it said "nothing" — at all'})
    ledger.append_event("client-dropped", {"client": 1, "why": "again"})


@contextmanager
def _tampered(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    yield connection
    connection.commit()
    connection.close()


def _rechained(entries: list[Entry], start: int) -> list[Entry]:
    done = entries[: start - 1]
    for entry in entries[start - 1 :]:
        previous = done[-1].hash if done else "0" * 64
        open_entry = replace(entry, number=len(done) + 1, previous=previous)
        done.append(replace(open_entry, hash=open_entry.computed_hash()))
    return done


def _store(connection: sqlite3.Connection, entries: list[Entry]) -> None:
    connection.execute("DELETE FROM entries")
    connection.executemany(
        "INSERT INTO entries (number, time, kind, body, previous, hash) VALUES (?, ?, ?, ?, ?, ?)",
        [(e.number, e.time, e.kind, e.body, e.previous, e.hash) for e in entries],
    )
