"""One ordinary round around a model whose outcome is kept apart, client by client, and not averaged."""

from __future__ import annotations

from flwr.app import ConfigRecord, RecordDict
from flwr.serverapp import Grid

from fedunlearn.channels.packing import Portion, unpack
from fedunlearn.errors import ClientError, CorruptModel
from fedunlearn.randomness import derive_seed
from fedunlearn.server.ledger import MAIN
from fedunlearn.server.session import Session
from fedunlearn.strategies.content import ARRAYS, CONFIG, state_record
from fedunlearn.strategies.exchange import Answer, exchange
from fedunlearn.strategies.method import ModelState
from fedunlearn.strategies.reception import nothing_but_finite
from fedunlearn.strategies.roster import Roster
from fedunlearn.strategies.serving import sample

MOST_UPDATES = 5
"""Of more remaining clients so many are drawn: whoever needs their updates needs a deviation, not all of them."""


def updates_around(grid: Grid, roster: Roster, session: Session, model: ModelState, seed: int) -> list[ModelState]:
    """What remaining clients make of `model` in one ordinary round, in the order of their ids; 5 clients at most.

    A server without secure aggregation sees this in every round. Whoever hands it on to another client shows that
    client what the others learned: for simulations, where all of them are one's own.

    Args:
        seed: draws the clients and seeds their training; equal for models that are to be compared.

    Raises:
        ClientError: nobody answered.
    """
    clients = roster.retaining()
    if len(clients) > MOST_UPDATES:
        clients = sample(clients, MOST_UPDATES / len(clients), derive_seed(seed, "updates"))
    last = session.ledger.last_round(MAIN)
    config = ConfigRecord({"server-round": 1 if last is None else last.number + 1, "seed": seed})
    content = RecordDict({ARRAYS: state_record(model), CONFIG: config})
    everything, updates = Portion.everything(model), []

    def keep(answer: Answer) -> None:
        nothing_but_finite(answer)
        try:
            updates.append(unpack(model, answer.arrays, everything))
        except CorruptModel as error:
            raise ClientError(f"client {answer.client}: {error}") from error

    outcome = exchange(grid, roster, "train", dict.fromkeys(clients, content), session.settings.timeout, take=keep)
    if not updates:
        why = outcome.dropped[0][1] if outcome.dropped else "no client keeps samples."
        raise ClientError(f"nobody answered the round around the audited model: {why}")
    return updates
