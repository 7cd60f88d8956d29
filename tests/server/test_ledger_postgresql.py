"""The ledger on PostgreSQL: run when FEDUNLEARN_TEST_POSTGRESQL names an empty database that may be written to.

FEDUNLEARN_TEST_POSTGRESQL=postgresql+psycopg://user@localhost/scratch pytest tests/server/test_ledger_postgresql.py
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from fedunlearn.config import FederationSettings
from fedunlearn.errors import RunFolderError
from fedunlearn.federation import Federation
from fedunlearn.server import ledger_schema as schema
from fedunlearn.server.ledger import Ledger
from fedunlearn.server.ledger_database import LedgerDatabase
from fedunlearn.server.ledger_verify import verify_chain
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.verification import verify_run

URL = os.environ.get("FEDUNLEARN_TEST_POSTGRESQL", "")
RUN = "ab" * 16

pytestmark = pytest.mark.skipif(not URL, reason="FEDUNLEARN_TEST_POSTGRESQL names no database")


@pytest.fixture
def url() -> Iterator[str]:
    """An empty database."""
    engine = create_engine(URL)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    yield URL


def test_what_is_recorded_is_chained_and_read_back(url: str, fill: Callable[[Ledger], None]) -> None:
    ledger = Ledger(url, RUN)
    fill(ledger)
    assert verify_chain(ledger.entries()) == []
    assert [row.seed for row in ledger.rounds("main")] == [2**63 - 1] * 2
    assert ledger.rounds("main")[0].seconds == 0.1 + 0.2
    assert Ledger(url, RUN).entries() == ledger.entries()
    with pytest.raises(RunFolderError, match="that of run"):
        Ledger(url, "cd" * 16)


@pytest.mark.parametrize(
    "statement", ["UPDATE entries SET kind = 'x'", "DELETE FROM entries", "TRUNCATE entries", "DELETE FROM events"]
)
def test_entries_and_events_are_append_only(url: str, fill: Callable[[Ledger], None], statement: str) -> None:
    ledger = Ledger(url, RUN)
    fill(ledger)
    with pytest.raises(RunFolderError, match="are append-only"), ledger._database.write() as connection:
        connection.exec_driver_sql(statement)


def test_writers_at_once_make_one_chain(url: str) -> None:
    Ledger(url, RUN).close()

    def write(name: str) -> None:
        ledger = Ledger(url, RUN)
        for number in range(10):
            with ledger.transaction():
                ledger.append_event(name, {"number": number})
        ledger.close()

    writers = [threading.Thread(target=write, args=(name,)) for name in ("a", "b", "c")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    entries = Ledger(url, RUN).entries()
    assert len(entries) == 31 and verify_chain(entries) == []


def test_an_older_ledger_is_migrated(url: str) -> None:
    database = LedgerDatabase(url)
    with database.write() as connection:
        schema.migrate(connection, RUN, None)
    database.close()
    ledger = Ledger(url, RUN)
    ledger.append_event("after")
    assert [entry.kind for entry in ledger.entries()] == ["ledger-begun", "event"]


def test_a_run_has_its_ledger_there(url: str, tmp_path: Path, small: dict) -> None:
    federation = Federation.simulate("digits", out=tmp_path / "run", ledger=url, class_harm=1.0, **small)
    federation.train()
    federation.request_deletion(client=0, classes=[3])
    federation.unlearn(method="fine-tune", rounds=1)
    folder = RunFolder.open(tmp_path / "run")
    assert folder.ledger_url == url and not folder.ledger.exists()
    assert verify_run(folder).problems == ()
    federation.erase("client-0-1", dry_run=False)
    assert federation.verify_ledger().problems == ()
    with create_engine(url).begin() as connection:
        connection.execute(text("ALTER TABLE entries DISABLE TRIGGER ALL"))
        connection.execute(text("UPDATE entries SET body = replace(body, 'digits', 'mnist') WHERE number = 4"))
        connection.execute(text("UPDATE entries SET time = 'yesterday' WHERE number = 4"))
    assert [problem.kind for problem in federation.verify_ledger().problems] == ["edited"]


@pytest.fixture
def small() -> dict:
    """Settings of a federation that trains in seconds."""
    settings = FederationSettings(clients=3, partition="iid", rounds=1, local_epochs=1, learning_rate=0.1)
    return {
        name: getattr(settings, name) for name in ("clients", "partition", "rounds", "local_epochs", "learning_rate")
    }
