"""The life of a deletion request on the server: taken in, verified, refused or served, acknowledged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flwr.app import ConfigRecord, RecordDict
from flwr.serverapp import Grid

from fedunlearn.announcement import Announcement
from fedunlearn.errors import RequestError
from fedunlearn.server.ledger import Ledger
from fedunlearn.server.ledger_tables import RequestRow
from fedunlearn.strategies.content import CONFIG
from fedunlearn.strategies.exchange import exchange
from fedunlearn.strategies.roster import Roster

OPEN = ("pending", "running", "failed")
"""States of requests that still have to be served."""


@dataclass(frozen=True)
class DeletionRequest:
    """A request for deletion, as everybody may see it.

    Attributes:
        scope: "client", "classes", "samples" or "class-everywhere".
        clients: the target clients.
        classes: class indices, or None.
        count: number of samples to forget, over all targets.
        state: "pending", "running", "done", "failed" or "refused".
        reason: why it was refused or failed; else empty.
    """

    id: str
    scope: str
    clients: tuple[int, ...]
    classes: tuple[int, ...] | None
    count: int
    state: str
    reason: str = ""

    @staticmethod
    def of(row: RequestRow) -> DeletionRequest:
        """The public side of a ledger row."""
        return DeletionRequest(row.id, row.scope, row.targets, row.classes, row.count, row.state, row.reason)


def take_in(ledger: Ledger, roster: Roster, finished_rounds: int) -> list[RequestRow]:
    """Record what the roster announces; forged requests are refused, known ones returned as they stand."""
    for member in roster.members.values():
        ledger.register_key(member.client, member.public_key)
    rows = []
    for id, announcements in _by_id(roster.announced).items():
        first = announcements[0]
        row = ledger.add_request(
            id=id,
            scope=first.scope,
            targets=[one.client for one in announcements],
            classes=first.classes,
            count=sum(one.count for one in announcements),
            commitment=";".join(one.commitment for one in announcements),
            signature=";".join(one.signature for one in announcements),
            arrived_round=finished_rounds,
        )
        if row.state == "pending":
            row = _verify(ledger, row, announcements, roster)
        rows.append(row)
    return rows


def _verify(ledger: Ledger, row: RequestRow, announcements: list[Announcement], roster: Roster) -> RequestRow:
    try:
        for one in announcements:
            one.verify(roster.members[one.client].public_key)
    except RequestError as error:
        return ledger.set_request_state(row.id, "refused", str(error))
    if not roster.retaining():
        return ledger.set_request_state(
            row.id,
            "refused",
            "it would leave the federation without data; at least one client must keep samples.",
        )
    return row


def acknowledge(grid: Grid, ledger: Ledger, roster: Roster, ids: Iterable[str], timeout: float) -> None:
    """Tell each target how its requests stand; a target that is away hears it when it asks again."""
    rows = [ledger.request(id) for id in ids]
    contents = {}
    for client in sorted({target for row in rows for target in row.targets} & set(roster.members)):
        own = [row for row in rows if client in row.targets]
        config = ConfigRecord(
            {
                "ids": [row.id for row in own],
                "states": [row.state for row in own],
                "reasons": [row.reason for row in own],
            }
        )
        contents[client] = RecordDict({CONFIG: config})
    if contents:
        exchange(grid, roster, "query.acknowledge", contents, timeout)


def _by_id(announced: Iterable[Announcement]) -> dict[str, list[Announcement]]:
    grouped: dict[str, list[Announcement]] = {}
    for one in sorted(announced, key=lambda a: (a.id, a.client)):
        grouped.setdefault(one.id, []).append(one)
    return grouped
