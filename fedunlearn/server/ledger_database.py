"""Transactions on the ledger's database: immediate, durable, and with sentences for errors."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from fedunlearn.errors import RunFolderError
from fedunlearn.files import no_space

_BUSY_SECONDS = 30

# Any number, the same for everybody: on PostgreSQL writers wait for each other on it, as they do on SQLite's file.
_WRITERS_LOCK = 0x6665647565


class LedgerDatabase:
    """The connection to the ledger: SQLite in write-ahead mode, PostgreSQL, or any SQLAlchemy URL.

    A transaction that was committed survives a killed process and a power cut; any other leaves no trace. There is
    one writer at a time.
    """

    def __init__(self, url: str) -> None:
        """Prepare connections to `url`; the first is made when it is needed.

        Raises:
            RunFolderError: `url` is no address, or its driver is not installed.
        """
        self._joined = threading.local()
        try:
            self._engine = create_engine(url, json_serializer=_to_json)
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            raise RunFolderError(
                f"the address of the ledger cannot be used ({error}): expected an SQLAlchemy URL such as "
                f"sqlite:///folder/ledger.sqlite, with its driver installed."
            ) from error
        self._where = self._engine.url.database or str(self._engine.url)
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Hold one writing transaction; inside another one of the same thread, join that one."""
        outer: Connection | None = getattr(self._joined, "connection", None)
        if outer is not None:
            yield outer
            return
        with self._told_as_sentence(), self._engine.begin() as connection:
            if self._engine.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITERS_LOCK})")
            self._joined.connection = connection
            try:
                yield connection
            finally:
                self._joined.connection = None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Hold one reading transaction, which never waits for a writer; inside `write`, join that one."""
        outer: Connection | None = getattr(self._joined, "connection", None)
        if outer is not None:
            yield outer
            return
        reading = self._engine.execution_options(fedunlearn_reads=True)
        if self._engine.dialect.name == "postgresql":
            # Several tables as of one moment, which SQLite gives anyway.
            reading = reading.execution_options(isolation_level="REPEATABLE READ")
        with self._told_as_sentence(), reading.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _told_as_sentence(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            reason = str(error.orig)
            if "disk is full" in reason or "No space left" in reason:
                raise no_space(self._where) from error
            if "locked" in reason:
                advice = f"another process has been writing to it for {_BUSY_SECONDS} s: wait for it or stop it"
            elif "not a database" in reason or "malformed" in reason:
                advice = "it is damaged: put back a copy of it, or start over in a new folder"
            else:
                advice = "check that it is there and is yours to write, then try again"
            raise RunFolderError(f"the ledger {self._where} cannot be used ({reason}): {advice}.") from error


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where `_begin_sqlite` says, not where the driver guesses
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get("fedunlearn_reads", False)
    # Immediate: a writer that has read first must not find that another one wrote in between.
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _to_json(value: Any) -> str:
    return json.dumps(plain(value), allow_nan=False, ensure_ascii=False)


def now() -> str:
    """Return the time in UTC, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def plain(value: Any) -> Any:
    """Return `value` as JSON knows it: arrays and tuples as lists, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
