"""A run that is open: its folder, the requests that a call is about, and jobs of the server, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from flwr.serverapp import Grid

from fedunlearn import engines, requesting
from fedunlearn.config import FederationSettings, run_config_of
from fedunlearn.errors import RequestError
from fedunlearn.plugins import plugged_in
from fedunlearn.progress import OnProgress
from fedunlearn.server.branches import unlearned_branches
from fedunlearn.server.failures import recorded
from fedunlearn.server.life_cycle import DeletionRequest
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.session import Session

T = TypeVar("T")
Asked = DeletionRequest | str | Sequence[DeletionRequest | str]
"""Requests of a call; those that were served together may come as they are shown, joined by "+"."""


class OpenRun:
    """A run folder in which jobs of the server are executed on the federation's engine."""

    def __init__(self, folder: RunFolder) -> None:
        """Use `Federation.simulate` or `Federation.open`."""
        self._folder = folder
        self._quiet_session = Session(folder)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self._folder.path

    @property
    def settings(self) -> FederationSettings:
        """The federation's settings."""
        return self._folder.settings

    def _run(self, work: Callable[[Grid, Session], T], doing: str, on_progress: OnProgress | None) -> T:
        from fedunlearn.clients.app import client_app

        session = self._session(on_progress)
        run_config = {**run_config_of(self.settings), "out": str(self.folder)}
        with self._folder.locked(doing), recorded(session, doing):
            self._folder.tidy()
            return engines.run(
                self.settings.engine,
                lambda grid: work(grid, session),
                client_app,
                self.settings.clients,
                run_config,
                self.settings.timeout,
                workers=self.settings.workers,
                imports=plugged_in(),
            )

    def _session(self, on_progress: OnProgress | None = None) -> Session:
        return self._quiet_session if on_progress is None else Session(self._folder, on_progress)

    def _named(self, request: Asked) -> list[str]:
        """Ids of the requests. Raises RequestError for one that there is not, before anything is written."""
        several = [request] if isinstance(request, DeletionRequest | str) else list(request)
        ids = [id for one in several for id in (one.split("+") if isinstance(one, str) else (one.id,))]
        requesting.check_known(self._session(), ids)
        return ids

    def _meant(self, request: Asked | None) -> list[str]:
        """Ids of the requests, or of what was served last; of the only one where nothing was."""
        if request is not None:
            return self._named(request)
        ledger = self._session().ledger
        unlearned = unlearned_branches(self._session())
        if unlearned:
            return str(unlearned[-1].request_id).split("+")
        known = [row.id for row in ledger.requests()] or list(requesting.filed_requests(self._session()))
        if len(known) == 1:
            return known
        raise RequestError("no request has been served yet; run `fedunlearn unlearn RUN` first.")
