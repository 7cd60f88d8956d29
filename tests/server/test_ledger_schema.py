from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine, inspect, text

from fedunlearn.errors import RunFolderError
from fedunlearn.server import ledger_chain as chain
from fedunlearn.server import ledger_schema as schema
from fedunlearn.server.ledger import Ledger
from fedunlearn.server.ledger_database import LedgerDatabase
from fedunlearn.server.ledger_tables import RoundRow, metadata
from fedunlearn.server.ledger_verify import verify_chain

RUN = "ab" * 16
OLD_ROWS = (
    "INSERT INTO requests VALUES (1, 'r1', 'classes', '[1]', '[2]', 5, 'c', 's', 'running', 'why', 1, 't0', 't1')",
    "INSERT INTO branches VALUES (1, 'main', NULL, 'main', 'd1', 'running', '{}')",
    "INSERT INTO rounds VALUES (1, 'main', 1, 'd0', 'd1', '[0, 1]', '[]', '{}', '{\"loss\": 0.1}', 1.5, NULL, 't')",
    "INSERT INTO phases VALUES (1, 'b', '0:q', 'd1', 'd1', '{}', '{}', 0.5, 't')",
    "INSERT INTO events VALUES (1, 't0', 'started', NULL, '{\"pid\": 3}')",
    "INSERT INTO client_keys VALUES (0, 'key', 't0')",
)


@pytest.fixture
def format_1(ledger_path: Path) -> str:
    """The URL of a ledger as the first version made it: its tables, and no note of a version."""
    url = f"sqlite:///{ledger_path}"
    database = LedgerDatabase(url)
    with database.write() as connection:
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
        config.set_main_option("path_separator", "os")
        config.attributes.update(connection=connection, run=None)
        command.upgrade(config, "1")
        connection.exec_driver_sql("DROP TABLE alembic_version")
        for statement in OLD_ROWS:
            connection.exec_driver_sql(statement)
    database.close()
    return url


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Callable[[str], Connection]]:
    engines = []

    def connect(url: str) -> Connection:
        engines.append(create_engine(url))
        return engines[-1].connect()

    yield connect
    for engine in engines:
        engine.dispose()


def test_migrations_and_tables_are_the_same_schema(tmp_path: Path, connect: Callable[[str], Connection]) -> None:
    made, migrated = f"sqlite:///{tmp_path}/made.sqlite", f"sqlite:///{tmp_path}/migrated.sqlite"
    Ledger(made).close()
    database = LedgerDatabase(migrated)
    with database.write() as connection:
        schema.migrate(connection, RUN, None)
    database.close()
    triggers = []
    for url in (made, migrated):
        connection = connect(url)
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert schema.version(connection) == schema.VERSION
        rows = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger' ORDER BY name"))
        triggers.append(list(rows.scalars()))
        assert set(inspect(connection).get_table_names()) == {table.name for table in metadata.sorted_tables}
    assert triggers[0] == triggers[1] != []


def test_a_ledger_of_format_1_is_taken_over_row_by_row(format_1: str) -> None:
    ledger = Ledger(format_1, RUN)
    assert ledger.run == RUN
    entries = ledger.entries()
    first = entries[0].content()
    assert first["rows"] == {
        table: 1 for table in ("requests", "branches", "rounds", "phases", "events", "client_keys")
    }
    adopted = {entry.content()["table"]: entry.content()["row"] for entry in entries[1:]}
    assert first["before"] == chain.rows_digest({name: [row] for name, row in adopted.items()})
    assert adopted["rounds"]["metrics"] == {"loss": 0.1} and adopted["requests"]["targets"] == [1]
    assert verify_chain(entries) == []
    ledger.record_round(RoundRow("main", 2, "d1", "d2", (0,), seed=7))
    assert [row.seed for row in ledger.rounds("main")] == [None, 7]
    assert ledger.request("r1").classes == (2,)
    again = Ledger(format_1, RUN)
    assert [entry.kind for entry in again.entries()] == [*(entry.kind for entry in entries), "round"]


def test_rows_that_do_not_have_the_stated_digest_are_found(
    format_1: str, tampered: Callable, rechained: Callable
) -> None:
    entries = Ledger(format_1, RUN).entries()
    second = json.loads(entries[1].body)
    second["row"]["count"] = 4
    from dataclasses import replace

    entries[1] = replace(entries[1], body=json.dumps(second))
    [problem] = verify_chain(rechained(entries, 2))
    assert problem.kind == "rewritten" and "digest the first entry states" in problem.sentence


def test_a_migration_that_is_cut_off_leaves_the_old_ledger(format_1: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(chain, "append", fail)
        with pytest.raises(KeyboardInterrupt):
            Ledger(format_1, RUN)
    database = LedgerDatabase(format_1)
    with database.read() as connection:
        assert schema.version(connection) == "1"
        assert "entries" not in inspect(connection).get_table_names()
    database.close()
    assert len(Ledger(format_1, RUN).entries()) == 7


@pytest.mark.parametrize("version", ["3", "nonsense"])
def test_a_ledger_of_a_newer_version_is_refused(tmp_path: Path, version: str) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    ledger = Ledger(url)
    with ledger._database.write() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{version}'")
    with pytest.raises(RunFolderError, match="was made by a newer version"):
        Ledger(url)
