"""Federation: the front door. Simulate, train, ask for deletion, unlearn, retrain, compare, report."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flwr.serverapp import Grid

from fedunlearn import engines, requesting
from fedunlearn.comparison import Comparison, client_pictures, comparison_document
from fedunlearn.config import FederationSettings, UnlearnSettings, make_settings, run_config_of
from fedunlearn.data.holding import Holding
from fedunlearn.errors import RequestError, SettingsError
from fedunlearn.files import atomic_write_json, make_folder, read_json
from fedunlearn.plugins import plugged_in
from fedunlearn.reports.document import clean
from fedunlearn.server import certificate, comparing, erasing, jobs
from fedunlearn.server.branches import job_for
from fedunlearn.server.certificate import Issued
from fedunlearn.server.choosing import OnChoice
from fedunlearn.server.comparing import Before
from fedunlearn.server.erasing import Erasure
from fedunlearn.server.failures import recorded
from fedunlearn.server.initial_model import with_initial_model
from fedunlearn.server.ledger_tables import BranchRow
from fedunlearn.server.life_cycle import DeletionRequest
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.session import OnProgress, Session
from fedunlearn.server.verification import Verification, verify_run
from fedunlearn.strategies import methods
from fedunlearn.strategies.asked import check_prepare_for, unlearn_settings
from fedunlearn.strategies.inner import make_strategy
from fedunlearn.strategies.serving import check_task
from fedunlearn.summaries import TrainingSummary, UnlearningSummary, training_summary, unlearning_summary

if TYPE_CHECKING:
    from fedunlearn.auditing import Audit

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
        on_choice: OnChoice = None,
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
        request: RequestLike | Sequence[DeletionRequest | str],
        settings: UnlearnSettings,
        *,
        together: bool = False,
        on_progress: OnProgress = None,
        on_choice: OnChoice = None,
    ) -> list[UnlearningSummary]:
        """As `unlearn`, with settings that are made already."""
        ids = None if request is None else _ids(request)

        def work(grid: Grid, session: Session) -> list[BranchRow]:
            return jobs.unlearn(grid, session, settings, ids, together, on_choice)

        return [unlearning_summary(self._session(), branch) for branch in self._run(work, "unlearn", on_progress)]

    def run_beside(
        self,
        request: RequestLike | Sequence[DeletionRequest | str],
        name: str,
        settings: UnlearnSettings,
        on_progress: OnProgress = None,
        start: str | None = None,
    ) -> BranchRow:
        """Run a method on a request that was served, as a branch called `name`; the served model stays.

        `compare` finds it again as the control `name`.

        Args:
            start: digest of the model that it starts from; None: the one that the request found.

        Raises:
            FedunlearnError: the method cannot serve the request.
        """
        ids = self._served(request)
        return self._run(
            lambda grid, session: comparing.run_beside(grid, session, ids, name, settings, start), name, on_progress
        )

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
        before: Before | None = None,
    ) -> Comparison:
        """Put all models of a request side by side, running what is lacking.

        Args:
            request: None for the one that was served last.
            rounds_after: ordinary rounds after which unlearned and retrained are measured once more.
            controls: further methods at the name that they get in the table.
            pooled: also measure what needs all clients' data in one place: linear probe, relearning time.
            before: earlier requests, whose samples every figure then covers as well, and the models that they left.

        Raises:
            SettingsError: `rounds_after` is below 0. RequestError: the request has not been served.
        """
        if rounds_after < 0:
            raise SettingsError(f"rounds-after = {rounds_after}: expected 0 or more.")
        ids = self._served(request)

        def work(grid: Grid, session: Session) -> dict[str, Any]:
            return comparing.compare(grid, session, ids, retrain, rounds_after, controls, before)

        figures = self._run(work, "compare", on_progress)
        document = comparison_document(self._session(), ids, figures, pooled, before.ids() if before else ())
        compared = [*(before.ids() if before else ()), *ids]
        atomic_write_json(self._saved_comparison(compared), clean(document))
        return Comparison(document)

    def report(
        self, request: RequestLike | Sequence[DeletionRequest | str] = None, on_progress: OnProgress = None
    ) -> Path:
        """Write the report of a request (None: the last served) into the run folder; return the page.

        It shows the last comparison of the unlearned model; if there is none yet, one without retraining is made. Where
        the run was audited, the verdict comes first, and the certificate and all other requests are shown as well.
        """
        ids = self._served(request)
        saved = self._saved_comparison(ids)
        comparison = Comparison(read_json(saved)) if saved.is_file() else None
        if comparison is None or comparison.document["models"]["unlearned"]["digest"] != self._unlearned_digest(ids):
            comparison = self.compare(ids, retrain=False, on_progress=on_progress)
        from fedunlearn.reporting import audit_trail

        session = self._session()
        comparison.save(self.folder, audit_trail(session), client_pictures(session, ids))
        return self._folder.report

    def erase(self, request: DeletionRequest | str, dry_run: bool = True, on_progress: OnProgress = None) -> Erasure:
        """Remove what still descends from a request's data: older models, what clients keep, reports of them.

        Args:
            dry_run: only say what would go.

        Raises:
            RequestError: the request is not done, or the served model itself descends from its data.
        """
        ids = _ids(request)
        if len(ids) != 1:
            raise RequestError(f"erase one request at a time: {', '.join(ids)}.")
        id = ids[0]
        return self._run(lambda grid, session: erasing.erase(grid, session, id, dry_run), "erase", on_progress)

    def verify_ledger(self, head_files: Sequence[Path] = (), with_models: bool = True) -> Verification:
        """Check ledger, clients' heads, models and audits of the run; nothing is changed.

        Args:
            head_files: `heads.json` of clients whose folders are elsewhere.
            with_models: also read every model and compare its digest.
        """
        return verify_run(self._folder, head_files, with_models)

    def certify(
        self,
        request: RequestLike | Sequence[DeletionRequest | str] = None,
        out: Path | str | None = None,
        head_files: Sequence[Path] = (),
    ) -> Issued:
        """Sign what the last audit of a request found, and write it with its evidence into a folder.

        Args:
            request: None for the one that was served last.
            out: folder of the bundle; None: one in the run folder's `certificates/`.
            head_files: `heads.json` of clients whose folders are elsewhere.

        Raises:
            RequestError: not done, or not audited. RunFolderError: the ledger or the key does not hold.
        """
        ids = self._served(request)
        with self._folder.locked("certificate"):
            return certificate.issue(self._session(), ids, None if out is None else Path(out), head_files)

    def rotate_key(self, password: bytes | None = None) -> str:
        """Replace the run's key by a new one, which the old one signs; return the new public key.

        Args:
            password: protects the new key's file; None: it has none.

        Raises:
            RunFolderError: the old key cannot be used.
        """
        with self._folder.locked("rotate-key"):
            return self._session().run_key().rotate(self._folder.server_key, password).public_key

    def audit(
        self,
        request: RequestLike | Sequence[DeletionRequest | str] = None,
        tier: str | None = None,
        band: int | None = None,
        *,
        restore: bool = True,
        processes: int | None = None,
        on_progress: OnProgress = None,
    ) -> Audit:
        """Judge a served request against a band of models retrained without what was filed.

        Earlier requests are judged again on the model as it is now. What the band lacks is retrained, in parallel, and
        kept for every later audit of any method.

        Args:
            request: None for the one that was served last.
            tier: "quick" (no retraining), "standard" (8 models) or "full" (20, and in a simulation two fewer other
                originals that are unlearned in the same way). None: standard, or full for a band of that size.
            band: size of the band; fewer than 8 never pass. None: the tier's.
            restore: serve the model from before again when the audited one fails; the data stays out all the same.
            processes: models that are trained at a time; None: one a core.

        Raises:
            SettingsError: no such tier or size. RequestError: the request has not been served.
        """
        from fedunlearn import auditing

        named, size = auditing.settled(tier, band)
        ids = self._served(request)

        def run(work: Callable[[Grid, Session], T]) -> T:
            return self._run(work, "audit", on_progress)

        with self._folder.locked("audit"):
            return auditing.audit(run, self._session(on_progress), ids, named, size, restore, processes)

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

    def _session(self, on_progress: OnProgress = None) -> Session:
        return self._quiet_session if on_progress is None else Session(self._folder, on_progress)

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
