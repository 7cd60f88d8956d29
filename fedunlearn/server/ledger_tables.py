"""The ledger's tables, and their rows as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import (
    DDL,
    JSON,
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

for _change in ("UPDATE", "DELETE"):
    event.listen(
        events,
        "after_create",
        DDL(
            f"CREATE TRIGGER events_no_{_change.lower()} BEFORE {_change} ON events "
            f"BEGIN SELECT RAISE(ABORT, 'events are append-only'); END"
        ).execute_if(dialect="sqlite"),
    )


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
    `seconds` is wall time; `extras` the digest of further state (an optimiser's), or None.
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


@dataclass(frozen=True)
class EventRow:
    """Something that happened; never changed, never deleted."""

    id: int
    time: str
    kind: str
    request_id: str | None
    detail: Mapping[str, Any]
