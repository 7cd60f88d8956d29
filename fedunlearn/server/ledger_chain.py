"""The chain of entries: every change of the ledger, each entry bound to the one before it by its hash."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from sqlalchemy import Connection, insert, select

from fedunlearn.canonical import canonical_text, tagged_digest
from fedunlearn.errors import RunFolderError
from fedunlearn.server.ledger_database import now, plain
from fedunlearn.server.ledger_tables import entries

FORMAT: Final = 2
"""The version of the ledger that begins with such a chain."""

BEFORE_FIRST: Final = "0" * 64
"""What the first entry has for the hash of the one before."""

BEGUN: Final = "ledger-begun"
ADOPTED: Final = "adopted"
REQUEST, REQUEST_STATE = "request", "request-state"
BRANCH, BRANCH_STATE, HEAD = "branch", "branch-state", "head"
ROUND, PHASE, EVENT, CLIENT_KEY = "round", "phase", "event", "client-key"
SERVER_KEY, KEY_ROTATION = "server-key", "key-rotation"
TOMBSTONE: Final = "tombstone"


@dataclass(frozen=True)
class Entry:
    """One entry: `number` from 1, `time` in UTC, `kind`, `body` (a JSON object as text) and the two hashes."""

    number: int
    time: str
    kind: str
    body: str
    previous: str
    hash: str

    def content(self) -> dict[str, Any]:
        """Return the body. Raises ValueError when it is no JSON object."""
        content = json.loads(self.body)
        if not isinstance(content, dict):
            raise ValueError("an entry's body is an object")
        return content

    def computed_hash(self, number: int | None = None) -> str:
        """Return the hash that this entry must have; `number`: as if it stood there."""
        # The body is hashed as text: nobody who checks has to write numbers as we do.
        return tagged_digest(
            "fedunlearn-ledger-1",
            {
                "number": self.number if number is None else number,
                "time": self.time,
                "kind": self.kind,
                "body": self.body,
                "previous": self.previous,
            },
        )

    def line(self) -> str:
        """Return the entry as one line of JSON."""
        return canonical_text(asdict(self))

    @staticmethod
    def of(content: Any) -> Entry:
        """Read what `line` wrote. Raises ValueError when it is something else."""
        kinds = {field.name: int if field.name == "number" else str for field in fields(Entry)}
        if not isinstance(content, dict) or set(content) != set(kinds):
            raise ValueError(f"an entry has the fields {', '.join(kinds)}")
        for name, kind in kinds.items():
            if type(content[name]) is not kind:
                raise ValueError(f"the field {name} of an entry is of another type")
        return Entry(**content)


def begin(connection: Connection, run: str | None, before: Mapping[str, Sequence[Mapping[str, Any]]]) -> Entry:
    """Write the first entry, and one for each row that was there before there was a chain.

    Args:
        run: the run's id; None draws one.
        before: table -> its rows, as they were.
    """
    rows = {name: plain(list(content)) for name, content in before.items()}
    body = {
        "format": FORMAT,
        "run": run or uuid.uuid4().hex,
        "before": rows_digest(rows) if any(rows.values()) else None,
        "rows": {name: len(content) for name, content in rows.items() if content},
    }
    first = _insert(connection, 1, BEFORE_FIRST, BEGUN, body)
    for name, content in rows.items():
        for row in content:
            append(connection, ADOPTED, {"table": name, "row": row})
    return first


def rows_digest(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the digest of the rows of an earlier format, table by table."""
    return tagged_digest("fedunlearn-ledger-tables-1", {name: content for name, content in rows.items() if content})


def append(connection: Connection, kind: str, body: Mapping[str, Any]) -> Entry:
    """Append an entry, in the transaction of the change that it states.

    Raises:
        RunFolderError: the chain is gone.
    """
    last = tail(connection)
    if last is None:
        raise RunFolderError(
            "the ledger's entries have been deleted: nothing can be recorded; put back a copy of the ledger, and see "
            "`fedunlearn ledger verify`."
        )
    return _insert(connection, last.number + 1, last.hash, kind, body)


def tail(connection: Connection) -> Entry | None:
    """Return the last entry, or None if there is none."""
    row = connection.execute(select(entries).order_by(entries.c.number.desc()).limit(1)).mappings().first()
    return None if row is None else Entry(**row)


def read(connection: Connection, kind: str | None = None) -> Iterator[Entry]:
    """Yield the entries (of a kind), in order."""
    query = select(entries).order_by(entries.c.number)
    if kind is not None:
        query = query.where(entries.c.kind == kind)
    for row in connection.execute(query).mappings():
        yield Entry(**row)


def run_id(chain: Iterable[Entry]) -> str | None:
    """Return the run's id out of the first entry, or None if that is not there."""
    for entry in chain:
        if entry.kind == BEGUN:
            try:
                return str(entry.content()["run"])
            except (KeyError, ValueError):
                return None
        break
    return None


def _insert(connection: Connection, number: int, previous: str, kind: str, body: Mapping[str, Any]) -> Entry:
    # Numbers as Python writes them, so that what is read back is the same to the last bit.
    text = json.dumps(plain(body), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    open_entry = Entry(number, now(), kind, text, previous, "")
    entry = Entry(**{**asdict(open_entry), "hash": open_entry.computed_hash()})
    connection.execute(insert(entries), asdict(entry))
    return entry
