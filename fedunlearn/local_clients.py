"""Work on a run's clients from this process, in a simulation: their folders are the run's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flwr.serverapp import Grid

from fedunlearn import engines
from fedunlearn.config import run_config_of
from fedunlearn.plugins import plugged_in
from fedunlearn.server.session import Session

T = TypeVar("T")


def with_clients(session: Session, work: Callable[[Grid], T]) -> T:
    """What `work(grid)` returns with the run's clients behind a grid of the local engine."""
    from fedunlearn.clients.app import client_app

    settings = session.settings
    run_config = {**run_config_of(settings), "out": str(session.folder.path)}
    return engines.run(
        "local",
        work,
        client_app,
        settings.clients,
        run_config,
        settings.timeout,
        workers=settings.workers,
        imports=plugged_in(),
    )
