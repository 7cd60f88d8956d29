"""Which models descend from which clients' rounds, as the ledger tells it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fedunlearn.errors import UnknownName
from fedunlearn.server import ledger_chain as chain
from fedunlearn.server.band import RECORDED as BAND_MEMBER
from fedunlearn.server.branches import SERVED
from fedunlearn.server.kept_updates import kept_digests
from fedunlearn.server.ledger_chain import Entry
from fedunlearn.server.shadow_record import RECORDED as SHADOW
from fedunlearn.strategies import methods

_START = "start of "
_TIMES = {"requests": "created", "rounds": "recorded", "phases": "recorded", "events": "time"}


@dataclass(frozen=True)
class Descent:
    """What one stored state descends from.

    Attributes:
        digest: of the model, or of what a round left beside it (a mask, an optimiser's state).
        what: where it comes from, for people.
        step: when it was first recorded: its place in the order of everything that was recorded.
        clients: client -> step of the first round among its ancestors in which the client took part.
        everybody: step at which it was trained on everything that was not yet filed; None: `clients` says all.
        cleared: requests that it was unlearned for.
        sent_by: the client that sent it, for a kept update; None: the server made it.
    """

    digest: str
    what: str
    step: int
    clients: Mapping[int, int] = field(default_factory=dict)
    everybody: int | None = None
    cleared: frozenset[str] = frozenset()
    sent_by: int | None = None

    def merged(self, other: Descent) -> Descent:
        """Return what holds of a state that came about in both ways."""
        clients = dict(self.clients)
        for client, step in other.clients.items():
            clients[client] = min(step, clients.get(client, step))
        everybody = [step for step in (self.everybody, other.everybody) if step is not None]
        return replace(
            self,
            what=other.what if self.what.startswith(_START) else self.what,
            clients=clients,
            everybody=min(everybody, default=None),
            cleared=self.cleared & other.cleared,
        )


@dataclass
class Lineage:
    """All states that the ledger tells of, and when requests arrived.

    Attributes:
        states: digest -> descent, in the order in which they were recorded.
        arrivals: request -> step at which it arrived.
        targets: request -> its target clients.
    """

    states: dict[str, Descent] = field(default_factory=dict)
    arrivals: dict[str, int] = field(default_factory=dict)
    targets: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def descends(self, digest: str, request: str) -> bool:
        """Return whether a state descends from rounds in which the request's data took part; an unknown one does.

        What counts is whether a target took part before its request arrived: from then on its forget set was out.
        """
        state = self.states.get(digest)
        if state is None or request not in self.arrivals:
            return True
        if request in state.cleared:
            return False
        steps = [state.clients[client] for client in self.targets[request] if client in state.clients]
        steps += [] if state.everybody is None else [state.everybody]
        return any(step < self.arrivals[request] for step in steps)

    def descendants(self, request: str) -> list[Descent]:
        """Return the states that still descend from a request's data, oldest first."""
        return [state for state in self.states.values() if self.descends(state.digest, request)]

    def earliest_clean(self, request: str) -> Descent | None:
        """Return the first state trained by anybody that does not descend from the request's data, or None."""
        for state in self.states.values():
            trained = (state.clients or state.everybody is not None) and state.sent_by is None
            if trained and not self.descends(state.digest, request):
                return state
        return None


def lineage(entries: Iterable[Entry]) -> Lineage:
    """Return the lineage that the entries tell."""
    found, heads = Lineage(), _Heads()
    for step, (table, row) in enumerate(_in_order(entries)):
        if table == "requests":
            found.arrivals[row["id"]] = step
            found.targets[row["id"]] = tuple(int(client) for client in row["targets"])
        elif table == "branches":
            heads.begin(found, row, step)
        elif table in ("rounds", "phases"):
            _finished(found, heads, table, row, step)
        elif row["kind"] == SERVED:
            _clear(found, row["detail"])
        elif row["kind"] == BAND_MEMBER:
            detail = row["detail"]
            cleared = frozenset(str(id) for id in detail["without"])
            name = f"retrained model {detail['number']} of a band"
            _add(found, Descent(detail["digest"], name, step, everybody=step, cleared=cleared))
        elif row["kind"] == SHADOW:
            detail = row["detail"]
            cleared = frozenset(str(id) for id in detail["without"])
            # Its original was trained anew on what the request names, whenever that was filed.
            _add(
                found,
                Descent(
                    detail["digest"], f"shadow {detail['number']} of an audit", step, everybody=-1, cleared=cleared
                ),
            )
    return found


class _Heads:
    """Branches that begin with fresh weights and have not had a round yet."""

    def __init__(self) -> None:
        self._fresh: set[str] = set()

    def begin(self, found: Lineage, row: Mapping[str, Any], step: int) -> None:
        settings = row["settings"]
        start = settings.get("start") or row["head"]
        if start is not None and start not in found.states:
            _add(found, Descent(start, f"{_START}{row['name']}", step))
        if settings and _starts_fresh(str(settings.get("method"))):
            self._fresh.add(row["name"])

    def parent(self, found: Lineage, table: str, row: Mapping[str, Any], step: int) -> Descent | None:
        """What a round or phase began with; None for fresh weights."""
        if row["branch"] in self._fresh:
            if table == "rounds":
                self._fresh.discard(row["branch"])
            return None
        before = row["digest_before"]
        if before not in found.states:
            # The start of a branch that was taken over from an earlier format.
            _add(found, Descent(before, f"{_START}{row['branch']}", step))
        return found.states[before]


def _finished(found: Lineage, heads: _Heads, table: str, row: Mapping[str, Any], step: int) -> None:
    parent = heads.parent(found, table, row, step)
    if table == "rounds":
        took_part, extras = row["participants"], row["extras"]
        name = f"round {row['number']} of {row['branch']}"
    else:
        result = row["result"]
        took_part = [int(client) for client in result.get("client_seconds", {})]
        extras, name = result.get("extras"), f"{row['name']} of {row['branch']}"
    clients = dict(parent.clients) if parent else {}
    everybody, cleared = (parent.everybody, parent.cleared) if parent else (None, frozenset())
    for one, digest in kept_digests(row).items() if table == "rounds" else ():
        before = {**clients, one: clients.get(one, step)}
        what = f"what client {one} sent in {name}"
        _add(found, Descent(digest, what, step, before, everybody, cleared, sent_by=one))
    for client in took_part:
        clients.setdefault(int(client), step)
    if row["digest_after"] != row["digest_before"]:
        _add(found, Descent(row["digest_after"], name, step, clients, everybody, cleared))
    if extras:
        _add(found, Descent(extras, f"what {name} left", step, clients, everybody, cleared))


def _clear(found: Lineage, detail: Mapping[str, Any]) -> None:
    state = found.states.get(str(detail["to"]))
    if state is not None:
        requests = frozenset(str(detail["request"]).split("+"))
        found.states[state.digest] = replace(state, cleared=state.cleared | requests)


def _add(found: Lineage, state: Descent) -> None:
    known = found.states.get(state.digest)
    found.states[state.digest] = state if known is None else known.merged(state)


def _starts_fresh(method: str) -> bool:
    """Whether a method begins with fresh weights; one that is not known here is taken not to."""
    try:
        return bool(getattr(methods.get(method), "starts_fresh", False))
    except UnknownName:
        return False


def _in_order(entries: Iterable[Entry]) -> list[tuple[str, Mapping[str, Any]]]:
    """Rows in the order in which they came; those of an earlier format, whose order is lost, by their times."""
    inserts = {
        chain.REQUEST: "requests",
        chain.BRANCH: "branches",
        chain.ROUND: "rounds",
        chain.PHASE: "phases",
        chain.EVENT: "events",
    }
    adopted: list[tuple[str, Mapping[str, Any]]] = []
    rows: list[tuple[str, Mapping[str, Any]]] = []
    for entry in entries:
        if entry.kind == chain.ADOPTED:
            body = entry.content()
            if body["table"] == "branches":
                # Its head is where it ended; where it began, its settings or its first round say.
                adopted.append((body["table"], {**body["row"], "head": None}))
            elif body["table"] in _TIMES:
                adopted.append((body["table"], body["row"]))
        elif entry.kind in inserts:
            rows.append((inserts[entry.kind], entry.content()))
    # Branches have no time, and come first.
    adopted.sort(key=lambda item: item[1].get(_TIMES.get(item[0], ""), ""))
    return adopted + rows
