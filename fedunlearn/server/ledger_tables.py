"""The ledger's tables, and their rows as frozen dataclasses.

`entries` is the record: append-only, each entry bound to the one before it by its hash. All other tables are
projections of it, kept so that they need not be computed; `ledger_verify` does compute them, and compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import (
    DDL,
    JSON,
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
)

metadata: Final = MetaData()

requests: Final = Table(
    "requests",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("scope", String(32), nullable=False),
    Column("targets", JSON, nullable=False),
    Column("classes", JSON(none_as_null=True)),
    Column("count", Integer, nullable=False),
    Column("commitment", Text, nullable=False),
    Column("signature", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("arrived_round", Integer, nullable=False),
    Column("created", String(40), nullable=False),
    Column("updated", String(40), nullable=False),
)

branches: Final = Table(
    "branches",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False, unique=True),
    Column("request_id", Text),
    Column("kind", String(64), nullable=False),
    Column("head", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("settings", JSON, nullable=False),
)

rounds: Final = Table(
    "rounds",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("branch", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("digest_before", String(64), nullable=False),
    Column("digest_after", String(64), nullable=False),
    Column("participants", JSON, nullable=False),
    Column("dropped", JSON, nullable=False),
    Column("bytes", JSON, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("extras", Text),
    Column("recorded", String(40), nullable=False),
    Column("seed", BigInteger),
    Column("mask", String(64)),
    UniqueConstraint("branch", "number"),
)

phases: Final = Table(
    "phases",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("branch", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("digest_before", String(64), nullable=False),
    Column("digest_after", String(64), nullable=False),
    Column("result", JSON, nullable=False),
    Column("bytes", JSON, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("recorded", String(40), nullable=False),
    Column("seed", BigInteger),
    Column("mask", String(64)),
    UniqueConstraint("branch", "name"),
)

events: Final = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("time", String(40), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("request_id", Text),
    Column("detail", JSON, nullable=False),
    Index("events_of_request", "request_id"),
)

client_keys: Final = Table(
    "client_keys",
    metadata,
    Column("client", Integer, primary_key=True, autoincrement=False),
    Column("public_key", Text, nullable=False),
    Column("registered", String(40), nullable=False),
)

entries: Final = Table(
    "entries",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("time", String(40), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("body", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
)

# Alembic's own, declared so that a new ledger is made in one go; `ledger_schema` says when it is looked at.
schema_version: Final = Table("alembic_version", metadata, Column("version_num", String(32), primary_key=True))

PROJECTIONS: Final = (requests, branches, rounds, phases, events, client_keys)
"""What is computed from the entries."""


def row_columns(table: Table) -> list[str]:
    """Return the names of a projection's columns without the number that the database gives each row."""
    return [column.name for column in table.c if not (column.primary_key and column.autoincrement is True)]


def append_only(table: str, dialect: str) -> list[str]:
    """Return the statements that make the database refuse changes of a table's rows.

    Whoever owns the database can take them away again; what finds changes is the chain.
    """
    refused = f"{table} are append-only"
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{refused}'); END"
            for change in ("UPDATE", "DELETE")
        ]
    if dialect == "postgresql":
        return [
            f"CREATE FUNCTION {table}_refuse() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{refused}'; END $$",
            f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_refuse()",
        ]
    return []


for _table in (events, entries):
    for _dialect in ("sqlite", "postgresql"):
        for _statement in append_only(_table.name, _dialect):
            # DDL takes % for a place to fill.
            event.listen(_table, "after_create", DDL(_statement.replace("%", "%%")).execute_if(dialect=_dialect))


@dataclass(frozen=True)
class RequestRow:
    """A deletion request as the server knows it; times are UTC in ISO 8601.

    `state` is pending, running, done, failed or refused; `reason` a sentence, or empty; `count` the number of
    samples; `arrived_round` how many rounds had been finished when it arrived.
    """

    id: str
    scope: str
    targets: tuple[int, ...]
    classes: tuple[int, ...] | None
    count: int
    commitment: str
    signature: str
    state: str
    reason: str
    arrived_round: int
    created: str
    updated: str

    def same_content(self, other: RequestRow) -> bool:
        """Return whether both ask for the same thing."""
        mine = (self.scope, self.targets, self.classes, self.count, self.commitment)
        return mine == (other.scope, other.targets, other.classes, other.count, other.commitment)


@dataclass(frozen=True)
class BranchRow:
    """A line of models: `head` is the digest of its newest; `state` is running, done or failed."""

    name: str
    kind: str
    head: str
    request_id: str | None = None
    state: str = "running"
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RoundRow:
    """A finished round of a branch.

    `dropped` pairs a client with the sentence that says why; `bytes` is action -> {"up": n, "down": n};
    `seconds` is wall time; `extras` the digest of further state (an optimiser's), or None; `seed` is what the
    round's random choices were derived from; `mask` the digest of the channel mask, or None where all moved.
    """

    branch: str
    number: int
    digest_before: str
    digest_after: str
    participants: tuple[int, ...]
    dropped: tuple[tuple[int, str], ...] = ()
    bytes: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    extras: str | None = None
    recorded: str = ""
    seed: int | None = None
    mask: str | None = None


@dataclass(frozen=True)
class PhaseRow:
    """A finished phase that is not a round (reference, attribute, forget): a resumed job skips it."""

    branch: str
    name: str
    digest_before: str
    digest_after: str
    result: Mapping[str, Any] = field(default_factory=dict)
    bytes: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    recorded: str = ""
    seed: int | None = None
    mask: str | None = None


@dataclass(frozen=True)
class EventRow:
    """Something that happened; never changed, never deleted."""

    id: int
    time: str
    kind: str
    request_id: str | None
    detail: Mapping[str, Any]
