"""Asking for deletion in a simulated federation, where every client's inbox lies in the run folder."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from fedunlearn.clients.filing import file_request
from fedunlearn.clients.inbox import Inbox
from fedunlearn.data.holding import Holding, holding
from fedunlearn.errors import RequestError, SettingsError
from fedunlearn.server.life_cycle import DeletionRequest
from fedunlearn.server.session import Session


def request_deletion(
    session: Session, client: int | None, classes: Sequence[int] | None, samples: Sequence[int] | None
) -> DeletionRequest:
    """File a request in the inbox of `client`, or of every holder of `classes` when it is None.

    Raises:
        SettingsError: it is not said who or what, or not in whole numbers.
        RequestError: unknown client, a class that it does not hold, nothing to forget, nobody left.
    """
    classes = None if classes is None else _whole_numbers("classes", classes)
    samples = None if samples is None else _whole_numbers("samples", samples)
    if client is None:
        if classes is None or samples is not None:
            raise SettingsError("name a client, or classes alone to forget them everywhere.")
        return _request_everywhere(session, sorted(set(classes)))
    [client] = _whole_numbers("client", [client])
    clients = session.settings.clients
    if not 0 <= client < clients:
        raise RequestError(f"there is no client {client}; the clients are 0 to {clients - 1}.")
    asker = holding_of(session, client)
    if classes is None and samples is None:
        _check_somebody_stays(session, {client: asker.select()})
    filed = file_request(session.folder.client(client), asker, classes, samples)
    return DeletionRequest(
        filed.id, filed.scope, (client,), filed.classes, len(filed.positions), filed.state, filed.reason
    )


def filed_requests(session: Session) -> dict[str, DeletionRequest]:
    """What lies in the inboxes, by id; the parts of a request to many clients are put together."""
    filed: dict[str, DeletionRequest] = {}
    for client in range(session.settings.clients):
        if not (session.folder.clients / str(client)).is_dir():
            continue
        for one in _inbox(session, client).all():
            part = DeletionRequest(one.id, one.scope, (client,), one.classes, len(one.positions), one.state, one.reason)
            filed[one.id] = _joined(filed[one.id], part) if one.id in filed else part
    return filed


def check_known(session: Session, ids: Sequence[str]) -> None:
    """Raise RequestError for an id that neither the ledger nor an inbox has, with those that there are."""
    known = {row.id for row in session.ledger.requests()}
    if known.issuperset(ids):
        return
    for client in range(session.settings.clients):
        if (session.folder.clients / str(client)).is_dir():
            known |= _inbox(session, client).ids()
    for id in ids:
        if id not in known:
            raise RequestError(f"there is no request {id!r}; there are: {', '.join(sorted(known)) or 'none'}.")


def holding_of(session: Session, client: int) -> Holding:
    """What a client holds."""
    return holding(session.settings, client, session.dataset)


def _whole_numbers(name: str, values: Iterable[int]) -> list[int]:
    """As a list of int, whatever they came in: a range, an array, a tensor."""
    try:
        return [operator.index(value) for value in values]
    except TypeError as error:
        raise SettingsError(f"{name} = {values!r}: expected whole numbers, such as [3, 4].") from error


def _joined(one: DeletionRequest, other: DeletionRequest) -> DeletionRequest:
    classes = tuple(sorted({*(one.classes or ()), *(other.classes or ())})) or None
    return replace(other, clients=one.clients + other.clients, classes=classes, count=one.count + other.count)


def _inbox(session: Session, client: int) -> Inbox:
    return Inbox(session.folder.client(client))


def _request_everywhere(session: Session, classes: list[int]) -> DeletionRequest:
    """`classes`: sorted, each once."""
    holdings = [holding_of(session, client) for client in range(session.settings.clients)]
    held = sorted({one for own in holdings for one in own.classes_held()})
    unknown = [one for one in classes if one not in held]
    if unknown or not classes:
        wrong = f"no client holds a sample of class {unknown[0]}" if unknown else "no class was named"
        raise RequestError(f"{wrong}; classes there: {', '.join(map(str, held))}.")
    named = f"class-{'-'.join(map(str, classes))}"
    asked = {}
    for own in holdings:
        present = [one for one in classes if one in own.classes_held()]
        if not present:
            continue
        inbox, positions = _inbox(session, own.client), own.select(classes=present)
        known = any(request.id == named for request in inbox.all())
        # Who has asked for all of these already, by leaving say, or never trained on any, has nothing to ask.
        if known or len(np.setdiff1d(positions, [*inbox.forgotten_positions(), *own.held_out])):
            asked[own.client] = (present, positions)
    if not asked:
        raise RequestError(f"every holder of class {', '.join(map(str, classes))} has already asked to forget it.")
    _check_somebody_stays(session, {client: positions for client, (_, positions) in asked.items()})
    filed = [
        file_request(session.folder.client(client), holdings[client], present, everywhere=named, holders=len(asked))
        for client, (present, _) in asked.items()
    ]
    count = sum(len(one.positions) for one in filed)
    return DeletionRequest(
        named, "class-everywhere", tuple(asked), tuple(classes), count, filed[-1].state, filed[-1].reason
    )


def _check_somebody_stays(session: Session, leaving: Mapping[int, np.ndarray]) -> None:
    """`leaving`: client -> positions that it is about to ask for. Raises RequestError when all data would go."""
    for client in range(session.settings.clients):
        asked = np.asarray(leaving.get(client, ()), dtype=np.int64)
        out = np.union1d(asked, _inbox(session, client).forgotten_positions())
        if len(holding_of(session, client).training_positions(out)):
            return
    raise RequestError(
        "the request would leave the federation without data; at least one client must keep samples to train on."
    )
