"""The server's record of requests, branches, rounds and events: what a resumed job goes by, and what auditors read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from fedunlearn.announcement import check_request_id, check_scope
from fedunlearn.errors import RequestError, RunFolderError
from fedunlearn.server import ledger_chain as chain
from fedunlearn.server import ledger_queries as queries
from fedunlearn.server import ledger_schema as schema
from fedunlearn.server import ledger_tables as tables
from fedunlearn.server.ledger_chain import Entry
from fedunlearn.server.ledger_database import LedgerDatabase, now, plain
from fedunlearn.server.ledger_tables import BranchRow, EventRow, PhaseRow, RequestRow, RoundRow

REQUEST_STATES: Final[Mapping[str, frozenset[str]]] = {
    "pending": frozenset({"running", "refused", "failed"}),
    "running": frozenset({"done", "failed", "refused"}),
    "failed": frozenset({"running", "refused"}),
    "done": frozenset(),
    "refused": frozenset(),
}
"""State of a request -> the states that may follow."""

BRANCH_STATES: Final = ("running", "done", "failed")

MAIN: Final = "main"
"""The branch of ordinary training; its head is the model that is served."""


class Ledger:
    """The ledger of a run. Every method is one transaction; `transaction` makes several methods one.

    Rounds, phases and events are only ever added. Recording the same round, phase, request or branch again,
    as a job resumed after a crash may, changes nothing and returns what is there. Whatever is recorded is appended to
    a hash-chained list of entries in the same transaction; the tables follow from it.
    """

    def __init__(self, url: str, run: str | None = None) -> None:
        """Open the ledger at an SQLAlchemy URL; make it if it is not there, migrate it if it is older.

        Args:
            run: the id of the run (32 hexadecimal digits) whose ledger it must be; None: of whichever run.

        Raises:
            RunFolderError: it cannot be opened, is damaged, full or that of another run; so may every other method.
        """
        self._database = LedgerDatabase(url)
        with self._database.read() as connection:
            current = schema.version(connection) == schema.VERSION
        if not current:
            with self._database.write() as connection:
                schema.prepare(connection, run)
        if run is not None and (found := self.run) != run:
            self.close()
            raise RunFolderError(
                f"the ledger at this address is that of run {found}, not of run {run}: give each run a database of its "
                f"own, or put back the run's own ledger."
            )

    @property
    def run(self) -> str:
        """The id of the run whose ledger this is."""
        with self._database.read() as connection:
            return chain.run_id(chain.read(connection, chain.BEGUN)) or "unknown"

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make everything that this thread records in the block one transaction: all of it, or nothing."""
        with self._database.write():
            yield

    def add_request(
        self,
        *,
        id: str,
        scope: str,
        targets: Sequence[int],
        classes: Sequence[int] | None,
        count: int,
        commitment: str,
        signature: str,
        arrived_round: int,
        parts: Sequence[Mapping[str, Any]] = (),
    ) -> RequestRow:
        """Record a request as pending, with an event; one that is known already is returned as it stands.

        Args:
            parts: what each target announced and signed, for who checks the signatures later.

        Raises:
            RequestError: the id or scope is malformed, or another request has this id.
        """
        time = now()
        row = RequestRow(
            id=check_request_id(id),
            scope=check_scope(scope),
            targets=tuple(sorted({int(target) for target in targets})),
            classes=None if classes is None else tuple(sorted({int(one) for one in classes})),
            count=int(count),
            commitment=commitment,
            signature=signature,
            state="pending",
            reason="",
            arrived_round=int(arrived_round),
            created=time,
            updated=time,
        )
        with self._database.write() as connection:
            known = queries.one_row(connection, RequestRow, tables.requests, id=id)
            if known is None:
                queries.insert_request(connection, row)
                detail = {"scope": row.scope, "targets": row.targets, "count": row.count, "parts": list(parts)}
                queries.append_event(connection, "request-arrived", id, detail)
                return row
        if not known.same_content(row):
            raise RequestError(f"request {id} is already recorded for something else: file this one under another id.")
        return known

    def request(self, id: str) -> RequestRow:
        """Return one request.

        Raises:
            RequestError: none has this id.
        """
        with self._database.read() as connection:
            return queries.known_request(connection, id)

    def has_request(self, id: str) -> bool:
        """Return whether a request with this id is recorded."""
        with self._database.read() as connection:
            return queries.one_row(connection, RequestRow, tables.requests, id=id) is not None

    def requests(self, *states: str) -> list[RequestRow]:
        """Return the requests in any of `states` (none given: all), in the order of arrival."""
        with self._database.read() as connection:
            rows = queries.all_rows(connection, RequestRow, tables.requests)
        return [row for row in rows if not states or row.state in states]

    def set_request_state(self, id: str, state: str, reason: str = "") -> RequestRow:
        """Move a request on and append an event; moving it to where it is changes nothing.

        Raises:
            RequestError: no such request or state, or one that cannot follow: done and refused are final.
        """
        with self._database.write() as connection:
            row = queries.known_request(connection, id)
            if state == row.state:
                return row
            if state not in REQUEST_STATES[row.state]:
                allowed = ", ".join(sorted(REQUEST_STATES[row.state])) or "nothing, it is final"
                raise RequestError(
                    f"request {id} is {row.state} and cannot become {state!r}; what can follow: {allowed}."
                )
            changed = queries.change_request(connection, row, state, reason)
            queries.append_event(connection, f"request-{state}", id, {"reason": reason} if reason else {})
            return changed

    def create_branch(
        self,
        name: str,
        kind: str,
        head: str,
        request_id: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> BranchRow:
        """Begin a line of models at digest `head`; a known branch is returned as it stands.

        Raises:
            RunFolderError: a branch of this name exists for another kind or request.
        """
        row = BranchRow(name, kind, head, request_id, settings=plain(settings or {}))
        with self._database.write() as connection:
            known = queries.one_row(connection, BranchRow, tables.branches, name=name)
            if known is None:
                queries.insert_branch(connection, row)
                return row
        if (known.kind, known.request_id) != (kind, request_id):
            raise RunFolderError(
                f"branch {name!r} already exists ({known.kind}, request {known.request_id}): choose another name."
            )
        return known

    def branch(self, name: str) -> BranchRow | None:
        """Return one branch, or None if there is none of this name."""
        with self._database.read() as connection:
            return queries.one_row(connection, BranchRow, tables.branches, name=name)

    def branches(self, request_id: str | None = None) -> list[BranchRow]:
        """Return the branches of a request (None: all branches), oldest first."""
        with self._database.read() as connection:
            rows = queries.all_rows(connection, BranchRow, tables.branches)
        return [row for row in rows if request_id is None or row.request_id == request_id]

    def set_branch_state(self, name: str, state: str) -> BranchRow:
        """Set a branch to running, done or failed; a branch that is done may run again (further rounds).

        Raises:
            RunFolderError: no such branch or state.
        """
        if state not in BRANCH_STATES:
            expected = ", ".join(BRANCH_STATES)
            raise RunFolderError(f"{state!r} is not a state of a branch; expected one of {expected}.")
        with self._database.write() as connection:
            row = queries.known_branch(connection, name)
            if row.state != state:
                queries.set_branch_state(connection, name, state)
            return replace(row, state=state)

    def move_head(self, name: str, digest: str, kind: str, detail: Mapping[str, Any] | None = None) -> BranchRow:
        """Set a branch's head without a round (to serve an unlearned model, to roll back), with an event.

        A head that is there already changes nothing and appends nothing.

        Raises:
            RunFolderError: no such branch.
        """
        with self._database.write() as connection:
            row = queries.known_branch(connection, name)
            if row.head == digest:
                return row
            queries.move_head(connection, name, digest)
            moved = {**(detail or {}), "branch": name, "from": row.head, "to": digest}
            queries.append_event(connection, kind, row.request_id, moved)
            return replace(row, head=digest)

    def record_round(self, row: RoundRow) -> RoundRow:
        """Add a finished round and move its branch's head, in one transaction.

        Raises:
            RunFolderError: the branch is missing; the round does not start from its head, or does not follow
                its last round; or the round is recorded already with another model.
        """
        with self._database.write() as connection:
            known = queries.one_row(connection, RoundRow, tables.rounds, branch=row.branch, number=row.number)
            if known is not None:
                return queries.same_models(row, known, f"round {row.number}")
            branch = queries.known_branch(connection, row.branch)
            queries.check_start(branch, row.digest_before, f"round {row.number}")
            queries.check_next(branch, row.number, queries.last_number(connection, row.branch))
            return queries.add_finished(connection, tables.rounds, row)

    def rounds(self, branch: str) -> list[RoundRow]:
        """Return the finished rounds of a branch, in order."""
        with self._database.read() as connection:
            return queries.all_rows(connection, RoundRow, tables.rounds, branch=branch)

    def last_round(self, branch: str) -> RoundRow | None:
        """Return a branch's last finished round, or None if there is none."""
        with self._database.read() as connection:
            last = queries.last_number(connection, branch)
            return queries.one_row(connection, RoundRow, tables.rounds, branch=branch, number=last)

    def record_phase(self, row: PhaseRow) -> PhaseRow:
        """Add a finished phase and move its branch's head, in one transaction.

        Raises:
            RunFolderError: the branch is missing, the phase does not start from its head, or the phase is
                recorded already with another model.
        """
        with self._database.write() as connection:
            known = queries.one_row(connection, PhaseRow, tables.phases, branch=row.branch, name=row.name)
            if known is not None:
                return queries.same_models(row, known, f"phase {row.name!r}")
            branch = queries.known_branch(connection, row.branch)
            queries.check_start(branch, row.digest_before, f"phase {row.name!r}")
            return queries.add_finished(connection, tables.phases, row)

    def phase(self, branch: str, name: str) -> PhaseRow | None:
        """Return a finished phase, or None if it is not finished."""
        with self._database.read() as connection:
            return queries.one_row(connection, PhaseRow, tables.phases, branch=branch, name=name)

    def phases(self, branch: str) -> list[PhaseRow]:
        """Return the finished phases of a branch, in order."""
        with self._database.read() as connection:
            return queries.all_rows(connection, PhaseRow, tables.phases, branch=branch)

    def append_event(self, kind: str, detail: Mapping[str, Any] | None = None, request_id: str | None = None) -> int:
        """Append an event and return its number (rising)."""
        with self._database.write() as connection:
            return queries.append_event(connection, kind, request_id, detail or {})

    def events(self, kind: str | None = None, request_id: str | None = None) -> list[EventRow]:
        """Return the events of a kind and a request (None: of any), in order."""
        wanted = {"kind": kind, "request_id": request_id}
        given = {column: value for column, value in wanted.items() if value is not None}
        with self._database.read() as connection:
            return queries.all_rows(connection, EventRow, tables.events, **given)

    def register_key(self, client: int, public_key: str) -> None:
        """Remember a client's public key (base64) at first contact; the same key again changes nothing.

        Raises:
            RequestError: the client is known by another key.
        """
        with self._database.write() as connection:
            queries.register_key(connection, client, public_key)

    def append(self, kind: str, body: Mapping[str, Any]) -> Entry:
        """Append an entry that changes no table: the server's key, a tombstone."""
        with self._database.write() as connection:
            return chain.append(connection, kind, body)

    def entries(self, kind: str | None = None) -> list[Entry]:
        """Return the entries of the chain (of a kind), in order."""
        with self._database.read() as connection:
            return list(chain.read(connection, kind))

    def last_entry(self) -> Entry | None:
        """Return the last entry of the chain; None only when it has been deleted."""
        with self._database.read() as connection:
            return chain.tail(connection)
