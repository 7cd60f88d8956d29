"""Rows in and out of the ledger's tables, within a transaction of the caller.

Every change is an entry of the chain as well: nothing here writes to a table without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, func, insert, select, update

from fedunlearn.errors import RequestError, RunFolderError
from fedunlearn.server import ledger_chain as chain
from fedunlearn.server import ledger_tables as tables
from fedunlearn.server.ledger_database import now, plain
from fedunlearn.server.ledger_tables import BranchRow, EventRow, PhaseRow, RequestRow, RoundRow

AnyRow = TypeVar("AnyRow", RequestRow, BranchRow, RoundRow, PhaseRow, EventRow)
Finished = TypeVar("Finished", RoundRow, PhaseRow)


def all_rows(connection: Connection, kind: type[AnyRow], table: Table, /, **wanted: Any) -> list[AnyRow]:
    """Return the rows whose columns equal `wanted`, oldest first."""
    query = select(table).order_by(*table.primary_key.columns)
    for column, value in wanted.items():
        query = query.where(table.c[column] == value)
    names = [column.name for column in fields(kind)]
    return [kind(**{name: _tuples(name, row[name]) for name in names}) for row in connection.execute(query).mappings()]


def one_row(connection: Connection, kind: type[AnyRow], table: Table, /, **wanted: Any) -> AnyRow | None:
    """Return the row whose columns equal `wanted`, or None."""
    rows = all_rows(connection, kind, table, **wanted)
    return rows[0] if rows else None


def known_request(connection: Connection, id: str) -> RequestRow:
    """Return a request, or raise RequestError."""
    row = one_row(connection, RequestRow, tables.requests, id=id)
    if row is None:
        ids = ", ".join(connection.scalars(select(tables.requests.c.id))) or "none"
        raise RequestError(f"the ledger has no request {id!r}; recorded are: {ids}.")
    return row


def known_branch(connection: Connection, name: str) -> BranchRow:
    """Return a branch, or raise RunFolderError."""
    row = one_row(connection, BranchRow, tables.branches, name=name)
    if row is None:
        names = ", ".join(connection.scalars(select(tables.branches.c.name))) or "none"
        raise RunFolderError(f"the ledger has no branch {name!r}; recorded are: {names}.")
    return row


def last_number(connection: Connection, branch: str) -> int | None:
    """Return the number of a branch's last round, or None."""
    return connection.scalar(select(func.max(tables.rounds.c.number)).where(tables.rounds.c.branch == branch))


def insert_request(connection: Connection, row: RequestRow) -> None:
    """Insert a new request."""
    _insert(connection, tables.requests, chain.REQUEST, row)


def change_request(connection: Connection, row: RequestRow, state: str, reason: str) -> RequestRow:
    """Move a request on, and return it as it is then."""
    changed = replace(row, state=state, reason=reason, updated=now())
    values = {"state": state, "reason": reason, "updated": changed.updated}
    connection.execute(update(tables.requests).where(tables.requests.c.id == row.id).values(values))
    chain.append(connection, chain.REQUEST_STATE, {"id": row.id, **values})
    return changed


def insert_branch(connection: Connection, row: BranchRow) -> None:
    """Insert a new branch."""
    _insert(connection, tables.branches, chain.BRANCH, row)


def set_branch_state(connection: Connection, name: str, state: str) -> None:
    """Set the state of a branch."""
    connection.execute(update(tables.branches).where(tables.branches.c.name == name).values(state=state))
    chain.append(connection, chain.BRANCH_STATE, {"name": name, "state": state})


def move_head(connection: Connection, branch: str, digest: str) -> None:
    """Set the digest of a branch's newest model, without a round that made it."""
    _set_head(connection, branch, digest)
    chain.append(connection, chain.HEAD, {"name": branch, "head": digest})


def append_event(connection: Connection, kind: str, request_id: str | None, detail: Mapping[str, Any]) -> int:
    """Append an event and return its number."""
    values = {"time": now(), "kind": kind, "request_id": request_id, "detail": plain(detail)}
    chain.append(connection, chain.EVENT, values)
    number = connection.execute(insert(tables.events), values).inserted_primary_key
    return int(number[0]) if number else 0


def check_start(branch: BranchRow, digest_before: str, what: str) -> None:
    """Raise RunFolderError if `what` did not start from the branch's head."""
    if branch.head != digest_before:
        raise RunFolderError(
            f"{what} of branch {branch.name!r} cannot be recorded: it started from {digest_before[:12]}, "
            f"but the branch is at {branch.head[:12]}; run it again from there."
        )


def check_next(branch: BranchRow, number: int, last: int | None) -> None:
    """Raise RunFolderError if round `number` does not follow the branch's last one (None: any may begin)."""
    if last is not None and number != last + 1:
        raise RunFolderError(
            f"round {number} of branch {branch.name!r} cannot be recorded: the last one is {last}, so that "
            f"{last + 1} is next."
        )


def same_models(new: Finished, known: Finished, what: str) -> Finished:
    """Return `known`, or raise RunFolderError if `new` led elsewhere."""
    if (new.digest_before, new.digest_after) != (known.digest_before, known.digest_after):
        raise RunFolderError(
            f"{what} of branch {new.branch!r} is recorded already with model {known.digest_after[:12]}, not "
            f"{new.digest_after[:12]}: go on from the recorded one."
        )
    return known


def add_finished(connection: Connection, table: Table, row: Finished) -> Finished:
    """Insert a round or a phase, move its branch's head, and return it as it will be read back."""
    recorded = replace(row, recorded=now())
    values = {name: plain(value) for name, value in asdict(recorded).items()}
    connection.execute(insert(table), values)
    chain.append(connection, chain.ROUND if table is tables.rounds else chain.PHASE, values)
    _set_head(connection, row.branch, row.digest_after)
    return type(row)(**{name: _tuples(name, value) for name, value in values.items()})


def register_key(connection: Connection, client: int, public_key: str) -> None:
    """Insert a client's key, or raise RequestError if it is known by another."""
    keys = tables.client_keys
    known = connection.scalar(select(keys.c.public_key).where(keys.c.client == client))
    if known is None:
        values = {"client": client, "public_key": public_key, "registered": now()}
        connection.execute(insert(keys), values)
        chain.append(connection, chain.CLIENT_KEY, values)
    elif known != public_key:
        raise RequestError(
            f"client {client} came with another key than the one it registered: put back the key.pem of its own folder."
        )


def _insert(connection: Connection, table: Table, kind: str, row: RequestRow | BranchRow) -> None:
    values = {name: plain(value) for name, value in asdict(row).items()}
    connection.execute(insert(table), values)
    chain.append(connection, kind, values)


def _set_head(connection: Connection, branch: str, digest: str) -> None:
    connection.execute(update(tables.branches).where(tables.branches.c.name == branch).values(head=digest))


def _tuples(column: str, value: Any) -> Any:
    """Return what JSON made a list as the tuple that it was."""
    if column == "dropped":
        return tuple((int(client), str(sentence)) for client, sentence in value)
    return tuple(value) if isinstance(value, list) else value
