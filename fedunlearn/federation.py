"""Federation: the front door. Simulate, train, ask for deletion, unlearn, retrain, compare, report."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from flwr.serverapp import Grid

from fedunlearn import engines, requesting
from fedunlearn.comparison import Comparison, comparison_document
from fedunlearn.config import FederationSettings, UnlearnSettings, make_settings, run_config_of
from fedunlearn.data.holding import Holding
from fedunlearn.errors import RequestError
from fedunlearn.files import atomic_write_json, make_folder, read_json
from fedunlearn.reports.document import clean
from fedunlearn.server import comparing, jobs
from fedunlearn.server.branches import job_for
from fedunlearn.server.ledger_tables import BranchRow
from fedunlearn.server.life_cycle import DeletionRequest
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.session import OnProgress, Session
from fedunlearn.strategies.asked import unlearn_settings
from fedunlearn.strategies.inner import make_strategy
from fedunlearn.summaries import TrainingSummary, UnlearningSummary, training_summary, unlearning_summary

T = TypeVar("T")
RequestLike = DeletionRequest | str | None


class Federation:
    """A federation in a run folder. Everything is kept there: any method can be called in a later process.

    >>> federation = Federation.simulate("mnist5k", clients=10, out="run")  # doctest: +SKIP
    >>> federation.train(rounds=15)  # doctest: +SKIP
    >>> request = federation.request_deletion(client=0)  # doctest: +SKIP
    >>> federation.unlearn(request)  # doctest: +SKIP
    >>> print(federation.compare().document["models"]["unlearned"]["test_accuracy"])  # doctest: +SKIP
    """

    def __init__(self, folder: RunFolder) -> None:
        """Use `Federation.simulate` or `Federation.open`."""
        self._folder = folder
        self._quiet_session = Session(folder)

    @classmethod
    def simulate(cls, task: str = "mnist5k", *, out: Path | str | None = None, **settings: Any) -> Federation:
        """A simulated federation; see `FederationSettings` for the settings.

        Args:
            out: run folder. One that holds a run of the same settings is gone on with; None: a temporary folder.

        Raises:
            SettingsError: a setting is wrong. RunFolderError: the folder holds another run.
        """
        wanted = make_settings(FederationSettings, {"task": task, **settings})
        path = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="fedunlearn-"))
        if not RunFolder.exists(path):
            cls(RunFolder(path.absolute(), wanted, ""))._check_data()
        return cls(RunFolder.of(path, wanted))

    @classmethod
    def open(cls, out: Path | str) -> Federation:
        """The federation in a run folder. Raises RunFolderError when there is none."""
        return cls(RunFolder.open(out))

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self._folder.path

    @property
    def settings(self) -> FederationSettings:
        """The federation's settings."""
        return self._folder.settings

    def train(self, rounds: int | None = None, on_progress: OnProgress = None) -> TrainingSummary:
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
        request: RequestLike | Sequence[DeletionRequest | str] = None,
        method: str = "selective-channels",
        ratio: str | float | Mapping[str, float] = "auto",
        rounds: int | None = None,
        *,
        together: bool = False,
        local_epochs: int | None = None,
        on_progress: OnProgress = None,
        **options: Any,
    ) -> list[UnlearningSummary]:
        """Serve requests (None: every open one), one after the other or `together`.

        The first method that serves a request decides which model is served from then on; later ones are kept
        as branches for comparison.

        Raises:
            UnknownName: no such method. SettingsError: a setting is wrong. RequestError: nothing to serve.
        """
        settings = unlearn_settings(method, ratio, rounds, local_epochs, options, self.settings)
        return self.unlearn_with(request, settings, together=together, on_progress=on_progress)

    def unlearn_with(
        self,
        request: RequestLike | Sequence[DeletionRequest | str],
        settings: UnlearnSettings,
        *,
        together: bool = False,
        on_progress: OnProgress = None,
    ) -> list[UnlearningSummary]:
        """As `unlearn`, with settings that are made already."""
        ids = None if request is None else _ids(request)

        def work(grid: Grid, session: Session) -> list[BranchRow]:
            return jobs.unlearn(grid, session, settings, ids, together)

        return [unlearning_summary(self._session(), branch) for branch in self._run(work, "unlearn", on_progress)]

    def retrain(
        self,
        request: RequestLike | Sequence[DeletionRequest | str] = None,
        rounds: int | None = None,
        on_progress: OnProgress = None,
    ) -> UnlearningSummary:
        """Retrain from scratch without the forget set: the reference. The served model stays.

        Args:
            request: None for the one that was served last.
            rounds: None: as many as the model that the request found had.
        """
        if rounds is not None:
            make_settings(UnlearnSettings, {"rounds": rounds})

        def work(grid: Grid, session: Session) -> BranchRow:
            return jobs.retrain(grid, session, self._served(request), rounds)

        return unlearning_summary(self._session(), self._run(work, "retrain", on_progress))

    def compare(
        self,
        request: RequestLike | Sequence[DeletionRequest | str] = None,
        retrain: bool = True,
        rounds_after: int = 0,
        controls: Mapping[str, UnlearnSettings] | None = None,
        pooled: bool = False,
        on_progress: OnProgress = None,
    ) -> Comparison:
        """Put all models of a request side by side, running what is lacking.

        Args:
            request: None for the one that was served last.
            rounds_after: ordinary rounds after which unlearned and retrained are measured once more.
            controls: further methods at the name that they get in the table.
            pooled: also measure what needs all clients' data in one place: linear probe, relearning time.
        """
        ids = self._served(request)

        def work(grid: Grid, session: Session) -> dict[str, Any]:
            return comparing.compare(grid, session, ids, retrain, rounds_after, controls)

        figures = self._run(work, "compare", on_progress)
        document = comparison_document(self._session(), ids, figures, pooled)
        atomic_write_json(self._saved_comparison(ids), clean(document))
        return Comparison(document)

    def report(
        self, request: RequestLike | Sequence[DeletionRequest | str] = None, on_progress: OnProgress = None
    ) -> Path:
        """Write the report of a request (None: the last served) into the run folder; return the page.

        It shows the last comparison of the unlearned model; if there is none yet, one without retraining is made.
        """
        ids = self._served(request)
        saved = self._saved_comparison(ids)
        comparison = Comparison(read_json(saved)) if saved.is_file() else None
        if comparison is None or comparison.document["models"]["unlearned"]["digest"] != self._unlearned_digest(ids):
            comparison = self.compare(ids, retrain=False, on_progress=on_progress)
        comparison.save(self.folder)
        return self._folder.report

    def _saved_comparison(self, ids: Sequence[str]) -> Path:
        joined = "+".join(sorted(ids))
        # A file name has at most 255 bytes.
        name = joined if len(joined) <= 200 else hashlib.sha256(joined.encode()).hexdigest()
        return make_folder(self._folder.audit) / f"comparison-{name}.json"

    def _unlearned_digest(self, ids: Sequence[str]) -> str:
        session = self._session()
        return comparing.unlearned_branch(session, job_for([session.ledger.request(id) for id in ids])).head

    def _run(self, work: Callable[[Grid, Session], T], doing: str, on_progress: OnProgress) -> T:
        from fedunlearn.clients.app import client_app

        session = self._session(on_progress)
        run_config = {**run_config_of(self.settings), "out": str(self.folder)}
        with self._folder.locked(doing):
            self._folder.tidy()
            return engines.run(
                self.settings.engine,
                lambda grid: work(grid, session),
                client_app,
                self.settings.clients,
                run_config,
                self.settings.timeout,
            )

    def _session(self, on_progress: OnProgress = None) -> Session:
        return self._quiet_session if on_progress is None else Session(self._folder, on_progress)

    def _check_data(self) -> None:
        """Whatever is wrong with task, partition, network or plants is found before a folder is made."""
        session = self._session()
        make_strategy(self.settings.strategy, self.settings.fraction)
        _ = session.architecture  # refuses a network without channels
        for client in range(self.settings.clients):
            self._holding(client)

    def _holding(self, client: int) -> Holding:
        return requesting.holding_of(self._session(), client)

    def _served(self, request: RequestLike | Sequence[DeletionRequest | str]) -> list[str]:
        if request is not None:
            return _ids(request)
        unlearned = [b for b in self._session().ledger.branches() if b.kind == "unlearned" and b.state == "done"]
        if not unlearned:
            known = self._session().ledger.requests() or self.requests()
            if len(known) == 1:
                return [known[0].id]
            raise RequestError("no request has been served yet; run `fedunlearn unlearn RUN` first.")
        return str(unlearned[-1].request_id).split("+")


def _ids(request: RequestLike | Sequence[DeletionRequest | str]) -> list[str]:
    """Ids of the requests; those that were served together may come as they are shown, joined by "+"."""
    several = [request] if isinstance(request, DeletionRequest | str) else list(request or ())
    return [id for one in several for id in (one.split("+") if isinstance(one, str) else (one.id,))]
