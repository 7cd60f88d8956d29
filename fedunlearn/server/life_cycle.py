"""The life of a deletion request on the server: taken in, verified, refused or served, acknowledged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flwr.serverapp import Grid

from fedunlearn.announcement import Announcement
from fedunlearn.errors import RequestError
from fedunlearn.server.ledger import MAIN, Ledger
from fedunlearn.server.ledger_tables import RequestRow
from fedunlearn.strategies.roster import Roster, call_roll, tell

OPEN = ("pending", "running", "failed")
"""States of requests that still have to be served."""
ENDED = ("done", "refused")
"""States that nothing follows."""


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


def gather(grid: Grid, ledger: Ledger, timeout: float) -> tuple[Roster, list[RequestRow]]:
    """Call the roll of all clients and `receive` what they announce."""
    roster = call_roll(grid, timeout)
    return roster, receive(grid, ledger, roster, timeout)


def receive(grid: Grid, ledger: Ledger, roster: Roster, timeout: float) -> list[RequestRow]:
    """Take in what the roster announces, and tell whoever missed it how an old request ended."""
    last = ledger.last_round(MAIN)
    rows = take_in(ledger, roster, 0 if last is None else last.number)
    acknowledge(grid, ledger, roster, [row.id for row in rows if row.state in ENDED], timeout)
    return rows


def take_in(ledger: Ledger, roster: Roster, finished_rounds: int) -> list[RequestRow]:
    """Record what the roster announces; forged requests are refused, known ones returned as they stand."""
    foreign = register_keys(ledger, roster)
    known = {row.id: row for row in ledger.requests()}
    rows = []
    sound, malformed = sort_out(roster.announced)
    for one, why in malformed:
        _ignore(ledger, one, why)
    for id, announcements in _by_id(sound).items():
        row = known.get(id)
        if row is None and id in incomplete(sound):
            continue  # in part it would be served in part
        if row is None:
            row = ledger.add_request(
                id=id,
                scope=announcements[0].scope,
                targets=[one.client for one in announcements],
                classes=_classes(announcements),
                count=sum(one.count for one in announcements),
                commitment=";".join(one.commitment for one in announcements),
                signature=";".join(one.signature for one in announcements),
                arrived_round=finished_rounds,
                parts=[_part(one) for one in announcements],
            )
        else:
            # After a crash some targets have heard how it stands and announce it no longer.
            announcements = _known_parts(ledger, row, announcements)
        if row.state == "pending" and announcements:
            row = _verify(ledger, row, announcements, roster, foreign)
        rows.append(row)
    return rows


def register_keys(ledger: Ledger, roster: Roster) -> dict[int, RequestError]:
    """Remember the key of every client that is there for the first time.

    Returns:
        Clients that come with another key than the one they registered, and what is to be said of it.
    """
    foreign = {}
    for member in roster.members.values():
        try:
            ledger.register_key(member.client, member.public_key)
        except RequestError as error:
            foreign[member.client] = error
    return foreign


def _classes(announcements: list[Announcement]) -> tuple[int, ...] | None:
    """The classes of all targets together: each names those that it holds."""
    return tuple(sorted({label for one in announcements for label in one.classes or ()})) or None


def _known_parts(ledger: Ledger, row: RequestRow, announcements: list[Announcement]) -> list[Announcement]:
    """Those that were recorded with the request; of others, an event says that they came."""
    recorded = set(zip(row.targets, row.commitment.split(";"), strict=True))
    for one in announcements:
        if (one.client, one.commitment) not in recorded:
            _ignore(ledger, one, "not what was recorded")
    return [one for one in announcements if (one.client, one.commitment) in recorded]


def _verify(
    ledger: Ledger,
    row: RequestRow,
    announcements: list[Announcement],
    roster: Roster,
    foreign: Mapping[int, RequestError],
) -> RequestRow:
    try:
        for one in announcements:
            if one.client in foreign:
                raise foreign[one.client]
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
    told = {
        client: [(row.id, row.state, row.reason) for row in rows if client in row.targets]
        for client in sorted({target for row in rows for target in row.targets})
    }
    tell(grid, roster, told, timeout)


def sort_out(announced: Iterable[Announcement]) -> tuple[list[Announcement], list[tuple[Announcement, str]]]:
    """Announcements that can be requests, and the others with the reason; what clients check is checked again here."""
    sound: list[Announcement] = []
    malformed: list[tuple[Announcement, str]] = []
    for one in dict.fromkeys(announced):
        try:
            one.check()
        except RequestError as error:
            malformed.append((one, str(error)))
        else:
            sound.append(one)
    for id, together in _by_id(sound).items():
        clients = {one.client for one in together}
        if len(together) > len(clients):
            why = f"request {id} came in several versions from one client."
        elif len(clients) > 1 and {one.scope for one in together} != {"class-everywhere"}:
            why = f"request {id} came from several clients, and only a class is forgotten everywhere."
        else:
            continue
        malformed += [(one, why) for one in together]
        sound = [one for one in sound if one.id != id]
    return sound, malformed


def incomplete(announced: Iterable[Announcement]) -> dict[str, tuple[int, int]]:
    """Requests of several holders that not all have filed yet: id -> how many have, and how many there are."""
    counts = {id: (len(parts), min(one.holders for one in parts)) for id, parts in _by_id(announced).items()}
    return {id: (have, of) for id, (have, of) in counts.items() if have < of}


def _ignore(ledger: Ledger, one: Announcement, why: str) -> None:
    """Write down, once, that an announcement was not taken in."""
    detail = {"client": one.client, "commitment": one.commitment, "why": why}
    if detail not in [dict(event.detail) for event in ledger.events("announcement-ignored", one.id)]:
        ledger.append_event("announcement-ignored", detail, one.id)


def _part(one: Announcement) -> dict[str, object]:
    """What of an announcement the ledger keeps beside the request, so that its signature can be checked later."""
    return {
        "client": one.client,
        "classes": one.classes,
        "count": one.count,
        "commitment": one.commitment,
        "signature": one.signature,
        "holders": one.holders,
    }


def _by_id(announced: Iterable[Announcement]) -> dict[str, list[Announcement]]:
    grouped: dict[str, list[Announcement]] = {}
    for one in sorted(announced, key=lambda a: (a.id, a.client)):
        grouped.setdefault(one.id, []).append(one)
    return grouped
