"""Federation: the front door. Simulate, train, ask for deletion, unlearn, retrain, compare, report."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from fedunlearn import requesting
from fedunlearn.accountable import Accountable
from fedunlearn.comparison import Comparison, client_pictures, comparison_document, keep_comparison, kept_comparison
from fedunlearn.config import FederationSettings, UnlearnSettings, make_settings
from fedunlearn.data.holding import Holding
from fedunlearn.errors import SettingsError
from fedunlearn.open_run import Asked
from fedunlearn.progress import OnProgress
from fedunlearn.server import comparing, jobs
from fedunlearn.server.branches import unlearned_branch
from fedunlearn.server.choosing import OnChoice
from fedunlearn.server.comparing import Before
from fedunlearn.server.initial_model import with_initial_model
from fedunlearn.server.ledger_tables import BranchRow
from fedunlearn.server.life_cycle import DeletionRequest
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.session import Session
from fedunlearn.strategies import methods
from fedunlearn.strategies.asked import check_prepare_for, unlearn_settings
from fedunlearn.strategies.inner import make_strategy
from fedunlearn.strategies.serving import check_task
from fedunlearn.summaries import TrainingSummary, UnlearningSummary, training_summary, unlearning_summary


class Federation(Accountable):
    """A federation in a run folder. Everything is kept there: any method can be called in a later process.

    >>> federation = Federation.simulate("mnist5k", clients=10, out="run")  # doctest: +SKIP
    >>> federation.train(rounds=15)  # doctest: +SKIP
    >>> request = federation.request_deletion(client=0)  # doctest: +SKIP
    >>> federation.unlearn(request)  # doctest: +SKIP
    >>> print(federation.compare().document["models"]["unlearned"]["test_accuracy"])  # doctest: +SKIP
    """

    @classmethod
    def simulate(
        cls, task: str = "mnist5k", *, out: Path | str | None = None, ledger: str | None = None, **settings: Any
    ) -> Federation:
        """A simulated federation; see `FederationSettings` for the settings.

        Args:
            out: run folder. One that holds a run of the same settings is gone on with; None: a temporary folder.
            ledger: SQLAlchemy URL of an empty database for the ledger (PostgreSQL, say), without a password; None: a
                SQLite file in the run folder.

        Raises:
            SettingsError: a setting is wrong. RunFolderError: the folder holds another run.
        """
        wanted = make_settings(FederationSettings, {"task": task, **settings})
        check_prepare_for(wanted.prepared_methods)
        path = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="fedunlearn-"))
        if not RunFolder.exists(path):
            cls(RunFolder(path.absolute(), wanted, ""))._check_data()
        wanted, initial = with_initial_model(wanted)
        folder = RunFolder.of(path, wanted, ledger)
        if initial is not None:
            initial.keep(folder)
        return cls(folder)

    @classmethod
    def open(cls, out: Path | str, workers: int | str | None = None) -> Federation:
        """The federation in a run folder.

        Args:
            out: run folder.
            workers: processes that run the clients from now on; None: as it was.

        Raises:
            SettingsError: `workers` is wrong. RunFolderError: there is no run.
        """
        folder = RunFolder.open(out)
        if workers is not None:
            settings = {**folder.settings.model_dump(), "workers": workers}
            folder = RunFolder.of(out, make_settings(FederationSettings, settings))
        return cls(folder)

    def train(self, rounds: int | None = None, on_progress: OnProgress | None = None) -> TrainingSummary:
        """Train until `rounds` rounds (None: the settings') are finished; a killed training goes on.

        Requests that are filed meanwhile are served between two rounds.
        """
        if rounds is not None:
            make_settings(FederationSettings, {**self.settings.model_dump(), "rounds": rounds})
        self._run(lambda grid, session: jobs.train(grid, session, rounds), "train", on_progress)
        return training_summary(self._session())

    def request_deletion(
        self,
        client: int | None = None,
        classes: Sequence[int] | None = None,
        samples: Sequence[int] | None = None,
    ) -> DeletionRequest:
        """File a request in the target's inbox (in simulation all inboxes are in the run folder).

        Args:
            client: who asks; None with `classes`: every holder of them.
            classes: class indices to forget. samples: indices into the client's own samples.

        Raises:
            SettingsError: it is not said who or what.
            RequestError: unknown client, a class that it does not hold, nothing to forget, nobody left.
        """
        return requesting.request_deletion(self._session(), client, classes, samples)

    def requests(self) -> list[DeletionRequest]:
        """All requests: what the ledger knows, and what is filed but not yet taken in."""
        known = {row.id: DeletionRequest.of(row) for row in self._session().ledger.requests()}
        filed = requesting.filed_requests(self._session())
        return [known.get(id, request) for id, request in {**known, **filed}.items()]

    def unlearn(
        self,
        request: Asked | None = None,
        method: str = "selective-channels",
        ratio: str | float | Mapping[str, float] = "auto",
        rounds: int | None = None,
        *,
        together: bool = False,
        local_epochs: int | None = None,
        on_progress: OnProgress | None = None,
        on_choice: OnChoice | None = None,
        **options: Any,
    ) -> list[UnlearningSummary]:
        """Serve requests (None: every open one), one after the other or `together`.

        The first method that serves a request decides which model is served from then on; later ones are kept
        as branches for comparison.

        Args:
            method: its name, or "auto" for the cheapest that can serve the request.
            on_choice: told what "auto" comes to, with the estimate of every method, before anything is sent.

        Raises:
            UnknownName: no such method. SettingsError: a setting is wrong. RequestError: nothing to serve, or the run
            lacks what the method needs.
        """
        settings = unlearn_settings(method, ratio, rounds, local_epochs, options, self.settings)
        return self.unlearn_with(request, settings, together=together, on_progress=on_progress, on_choice=on_choice)

    def unlearn_with(
        self,
        request: Asked | None,
        settings: UnlearnSettings,
        *,
        together: bool = False,
        on_progress: OnProgress | None = None,
        on_choice: OnChoice | None = None,
    ) -> list[UnlearningSummary]:
        """As `unlearn`, with settings that are made already."""
        ids = None if request is None else self._named(request)
        jobs.check_unlearning(self._session(), settings, ids, together)

        def work(grid: Grid, session: Session) -> list[BranchRow]:
            return jobs.unlearn(grid, session, settings, ids, together, on_choice)

        return [unlearning_summary(self._session(), branch) for branch in self._run(work, "unlearn", on_progress)]

    def run_beside(
        self,
        request: Asked | None,
        name: str,
        settings: UnlearnSettings,
        on_progress: OnProgress | None = None,
        start: str | None = None,
    ) -> BranchRow:
        """Run a method on a request that was served, as a branch called `name`; the served model stays.

        `compare` finds it again as the control `name`.

        Args:
            start: digest of the model that it starts from; None: the one that the request found.

        Raises:
            FedunlearnError: the method cannot serve the request.
        """
        ids = self._meant(request)
        return self._run(
            lambda grid, session: comparing.run_beside(grid, session, ids, name, settings, start), name, on_progress
        )

    def retrain(
        self,
        request: Asked | None = None,
        rounds: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> UnlearningSummary:
        """Retrain from scratch without the forget set: the reference. The served model stays.

        Args:
            request: None for the one that was served last.
            rounds: None: as many as the model that the request found had.
        """
        if rounds is not None:
            make_settings(UnlearnSettings, {"rounds": rounds})
        ids = self._meant(request)

        def work(grid: Grid, session: Session) -> BranchRow:
            return jobs.retrain(grid, session, ids, rounds)

        return unlearning_summary(self._session(), self._run(work, "retrain", on_progress))

    def compare(
        self,
        request: Asked | None = None,
        retrain: bool = True,
        rounds_after: int = 0,
        controls: Mapping[str, UnlearnSettings] | None = None,
        pooled: bool = False,
        on_progress: OnProgress | None = None,
        before: Before | None = None,
        method: str | None = None,
    ) -> Comparison:
        """Put all models of a request side by side, running what is lacking.

        Args:
            request: None for the one that was served last.
            rounds_after: ordinary rounds after which unlearned and retrained are measured once more.
            controls: further methods at the name that they get in the table.
            pooled: also measure what needs all clients' data in one place: linear probe, relearning time.
            before: earlier requests, whose samples every figure then covers as well, and the models that they left.
            method: whose unlearned model is compared, where several methods have served the request; None: the last's.

        Raises:
            SettingsError: `rounds_after` is below 0. RequestError: the request has not been served, or not by `method`.
        """
        if rounds_after < 0:
            raise SettingsError(f"rounds-after = {rounds_after}: expected 0 or more.")
        ids = self._meant(request)
        unlearned_branch(self._session(), ids, method)

        def work(grid: Grid, session: Session) -> dict[str, Any]:
            return comparing.compare(grid, session, ids, retrain, rounds_after, controls, before, method)

        figures = self._run(work, "compare", on_progress)
        earlier = before.ids() if before else []
        document = comparison_document(self._session(), ids, figures, pooled, earlier)
        return keep_comparison(self._session(), [*earlier, *ids], document)

    def report(
        self, request: Asked | None = None, on_progress: OnProgress | None = None, method: str | None = None
    ) -> Path:
        """Write the report of a request (None: the last served) into the run folder; return the page.

        It shows the last comparison of the unlearned model; if there is none yet, one without retraining is made. Where
        the run was audited, the verdict comes first, and the certificate and all other requests are shown as well.

        Args:
            method: as in `compare`.

        Raises:
            RequestError: the request has not been served, or not by `method`.
        """
        ids = self._meant(request)
        comparison = kept_comparison(self._session(), ids, method)
        if comparison is None:
            comparison = self.compare(ids, retrain=False, on_progress=on_progress, method=method)
        from fedunlearn.reporting import audit_trail

        session = self._session()
        comparison.save(self.folder, audit_trail(session), client_pictures(session, ids))
        return self._folder.report

    def _check_data(self) -> None:
        """Whatever is wrong with task, partition, network or plants is found before a folder is made."""
        session = self._session()
        make_strategy(self.settings.strategy, self.settings.fraction)
        _ = session.architecture  # refuses a network without channels
        for name in self.settings.prepared_methods:
            check_task(methods.get(name), session.task)
        for client in range(self.settings.clients):
            self._holding(client)

    def _holding(self, client: int) -> Holding:
        return requesting.holding_of(self._session(), client)
