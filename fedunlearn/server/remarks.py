"""What belongs beside a method's result: its own remarks, and what targets told of their steps."""

from __future__ import annotations

from fedunlearn.server.branches import settings_of
from fedunlearn.server.ledger_tables import BranchRow
from fedunlearn.server.recorder import TOLD
from fedunlearn.server.session import Session
from fedunlearn.strategies import methods
from fedunlearn.strategies.method import remarks


def remarks_of(session: Session, branch: BranchRow) -> tuple[str, ...]:
    """The method's own remarks, then each target's numbers of its step; nothing for a method without remarks."""
    settings = settings_of(branch)
    said = remarks(methods.get(settings.method), settings)
    if not said:
        return ()
    told = []
    for row in session.ledger.phases(branch.name):
        numbers = {name: row.result.get(name.replace("-", "_"), {}) for name in TOLD}
        for client in sorted({client for found in numbers.values() for client in found}, key=int):
            own = ", ".join(f"{name} {found[client]:.3g}" for name, found in numbers.items() if client in found)
            told.append(f"Client {client} in {row.name.partition(':')[2]}: {own}.")
    return (*said, *told)
