"""The ledger's tables as they follow from the chain of entries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fedunlearn.server import ledger_chain as chain
from fedunlearn.server import ledger_tables as tables
from fedunlearn.server.ledger_chain import Entry

Key = tuple[Any, ...]
Row = dict[str, Any]

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "requests": ("id",),
    "branches": ("name",),
    "rounds": ("branch", "number"),
    "phases": ("branch", "name"),
    "events": ("time", "kind"),
    "client_keys": ("client",),
}
"""Table -> the columns that tell its rows apart; events that agree in theirs are counted besides."""

_INSERTS: Final = {
    chain.REQUEST: "requests",
    chain.BRANCH: "branches",
    chain.ROUND: "rounds",
    chain.PHASE: "phases",
    chain.EVENT: "events",
    chain.CLIENT_KEY: "client_keys",
}
_COLUMNS: Final = {table.name: tables.row_columns(table) for table in tables.PROJECTIONS}


@dataclass
class Replay:
    """What the tables must hold.

    Attributes:
        rows: table -> key -> row, in the order in which they came.
        touched: table and key -> numbers of the entries that the row follows from.
        unreadable: numbers of entries that say nothing that a table could follow from.
    """

    rows: dict[str, dict[Key, Row]] = field(default_factory=lambda: {name: {} for name in KEYS})
    touched: dict[tuple[str, Key], list[int]] = field(default_factory=dict)
    unreadable: list[int] = field(default_factory=list)
    _namesakes: Counter[Key] = field(default_factory=Counter)

    def insert(self, table: str, row: Mapping[str, Any]) -> Key:
        """Add a row and return its key. Raises ValueError when one with this key is there."""
        own = {column: row.get(column) for column in _COLUMNS[table]}
        key = tuple(own[column] for column in KEYS[table])
        if table == "events":
            key = (*key, self._namesakes[key])
            self._namesakes[key[:-1]] += 1
        if key in self.rows[table]:
            raise ValueError("a row is inserted once")
        self.rows[table][key] = own
        return key

    def table(self, name: str) -> list[Row]:
        """Return the rows of a table, in order."""
        return list(self.rows[name].values())


def replay(entries: Iterable[Entry]) -> Replay:
    """Return the tables that follow from `entries`; whatever cannot be read is noted and left out."""
    found = Replay()
    for entry in entries:
        try:
            _apply(found, entry)
        except (KeyError, ValueError, TypeError):
            found.unreadable.append(entry.number)
    return found


def _apply(found: Replay, entry: Entry) -> None:
    body = entry.content()
    if entry.kind == chain.ADOPTED:
        _insert(found, entry, body["table"], body["row"])
    elif entry.kind in _INSERTS:
        _insert(found, entry, _INSERTS[entry.kind], body)
    elif entry.kind == chain.REQUEST_STATE:
        changes = {column: body[column] for column in ("state", "reason", "updated")}
        _update(found, entry, "requests", (body["id"],), changes)
    elif entry.kind == chain.BRANCH_STATE:
        _update(found, entry, "branches", (body["name"],), {"state": body["state"]})
    elif entry.kind == chain.HEAD:
        _update(found, entry, "branches", (body["name"],), {"head": body["head"]})
    if entry.kind in (chain.ROUND, chain.PHASE):
        _update(found, entry, "branches", (body["branch"],), {"head": body["digest_after"]})


def _insert(found: Replay, entry: Entry, table: str, row: Mapping[str, Any]) -> None:
    found.touched[table, found.insert(table, row)] = [entry.number]


def _update(found: Replay, entry: Entry, table: str, key: Key, changes: Mapping[str, Any]) -> None:
    found.rows[table][key].update(changes)
    found.touched[table, key].append(entry.number)
