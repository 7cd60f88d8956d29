"""Making a ledger's tables, and bringing those of an earlier version up to this one."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, insert, inspect, select

from fedunlearn.errors import RunFolderError
from fedunlearn.server import ledger_chain as chain
from fedunlearn.server.ledger_tables import metadata, schema_version

VERSION: Final = "2"
"""The version that this package writes."""

# Alembic keeps the migration that is under way in one place for the whole process.
_migrating = threading.Lock()


def prepare(connection: Connection, run: str | None) -> None:
    """Make the tables of an empty database, or migrate older ones, in the caller's transaction.

    Args:
        run: the id that the run has; None: a new ledger draws one.

    Raises:
        RunFolderError: a newer version of the package made the ledger.
    """
    found = version(connection)
    if found == VERSION:
        return
    if found is None:
        metadata.create_all(connection)
        connection.execute(insert(schema_version), {"version_num": VERSION})
        chain.begin(connection, run, {})
        return
    if not found.isdecimal() or int(found) > int(VERSION):
        raise RunFolderError(
            f"the ledger was made by a newer version (its format is {found}; this one knows up to {VERSION}): upgrade "
            f"with `pip install --upgrade fedunlearn`."
        )
    migrate(connection, run, found)


def version(connection: Connection) -> str | None:
    """Return the version of the tables that are there; None if there are none."""
    names = inspect(connection).get_table_names()
    if schema_version.name in names:
        return connection.scalar(select(schema_version.c.version_num))
    # Format 1 was made without a note of its version.
    return "1" if "requests" in names else None


def migrate(connection: Connection, run: str | None, found: str | None) -> None:
    """Run the migrations after `found` (None: all), in the caller's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes.update(connection=connection, run=run)
    with _migrating:
        if found is not None and schema_version.name not in inspect(connection).get_table_names():
            command.stamp(config, found)
        command.upgrade(config, VERSION)
