"""Showing the clients what the ledger says: whoever has seen a head can tell when it is taken back."""

from __future__ import annotations

from flwr.app import ConfigRecord, RecordDict
from flwr.serverapp import Grid

from fedunlearn.ledger_head import RECORD, to_record
from fedunlearn.server.session import Session
from fedunlearn.strategies.content import CONFIG
from fedunlearn.strategies.exchange import exchange
from fedunlearn.strategies.roster import TELL, Roster

REFUSED = "head-refused"
"""The event of a client that would not take a head, or did not answer."""


def share_head(grid: Grid, session: Session, roster: Roster) -> None:
    """Send every client that is there the signed head of the ledger; who refuses it is written down with the reason.

    Raises:
        RunFolderError: the run's key cannot be used.
    """
    key = session.run_key()
    record = ConfigRecord(dict(to_record(key.head(), key.rotations)))
    nothing_new = ConfigRecord({"ids": [], "states": [], "reasons": []})
    content = RecordDict({CONFIG: nothing_new, RECORD: record})
    outcome = exchange(grid, roster, TELL, dict.fromkeys(roster.members, content), session.settings.timeout)
    for client, sentence in outcome.dropped:
        session.ledger.append_event(REFUSED, {"client": client, "why": sentence})
