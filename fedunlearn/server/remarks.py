"""What belongs beside a method's result: its own remarks, and what targets told of their steps."""

from __future__ import annotations

from fedunlearn.server.branches import REPLACED, settings_of
from fedunlearn.server.ledger_tables import BranchRow
from fedunlearn.server.recorder import TOLD
from fedunlearn.server.session import Session
from fedunlearn.strategies import methods
from fedunlearn.strategies.method import remarks


def remarks_of(session: Session, branch: BranchRow) -> tuple[str, ...]:
    """Why it is another method than was asked for, the method's own remarks, then each target's numbers of its step.

    A method without remarks of its own has no such numbers.
    """
    settings = settings_of(branch)
    replaced = tuple(dict.fromkeys(_replaced(session, branch)))
    said = remarks(methods.get(settings.method), settings)
    if not said:
        return replaced
    told = []
    for row in session.ledger.phases(branch.name):
        numbers = {name: row.result.get(name.replace("-", "_"), {}) for name in TOLD}
        for client in sorted({client for found in numbers.values() for client in found}, key=int):
            own = ", ".join(f"{name} {found[client]:.3g}" for name, found in numbers.items() if client in found)
            told.append(f"Client {client} in {row.name.partition(':')[2]}: {own}.")
    return (*replaced, *said, *told)


def _replaced(session: Session, branch: BranchRow) -> list[str]:
    """What was asked for and could not be done, in the words of the ledger."""
    events = [event for kind in REPLACED for event in session.ledger.events(kind, branch.request_id)]
    return [
        f"{event.detail['asked']} was asked for and could not be run: {event.detail['why']}"
        for event in events
        if branch.kind == "unlearned" and event.detail["instead"] == branch.settings["method"]
    ]
