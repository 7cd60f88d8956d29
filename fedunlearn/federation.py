"""Federation: the front door. Simulate, train, ask for deletion, unlearn, retrain, compare, report."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from flwr.serverapp import Grid

from fedunlearn import engines
from fedunlearn.clients.filing import file_request
from fedunlearn.clients.handlers import kept_path
from fedunlearn.clients.inbox import Inbox
from fedunlearn.config import FederationSettings, UnlearnSettings, make_settings, run_config_of
from fedunlearn.data.holding import Holding, holding
from fedunlearn.errors import RequestError, RunFolderError, SettingsError
from fedunlearn.files import atomic_write_json, make_folder, read_json
from fedunlearn.reports.document import clean
from fedunlearn.server import comparing, jobs
from fedunlearn.server.branches import MAIN, classes_of, job_for
from fedunlearn.server.ledger_tables import BranchRow
from fedunlearn.server.life_cycle import DeletionRequest
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.session import OnProgress, Session
from fedunlearn.strategies.inner import make_strategy

if TYPE_CHECKING:
    from rich.console import Group

T = TypeVar("T")
RequestLike = DeletionRequest | str | None


@dataclass(frozen=True)
class TrainingSummary:
    """What training came to: rounds finished, accuracy on the central test set, the model's digest."""

    rounds: int
    test_accuracy: float | None
    digest: str


@dataclass(frozen=True)
class UnlearningSummary:
    """What one branch came to.

    Attributes:
        requests: ids that it served, joined by "+".
        branch: its name in the ledger.
        method: what ran in the end; "retrain" where a target that was needed never answered.
        digest: of the resulting model.
        rounds: training rounds.
        seconds: wall time of its exchanges.
        test_accuracy: on the central test set.
    """

    requests: str
    branch: str
    method: str
    digest: str
    rounds: int
    seconds: float
    test_accuracy: float | None


@dataclass(frozen=True)
class Comparison:
    """Original, unlearned, retrained, fine-tuned and retrained-at-the-same-budget, side by side.

    Attributes:
        document: everything, as `compare --json` prints it.
    """

    document: Mapping[str, Any]

    def table(self) -> Group:
        """The answer as a table for the terminal."""
        from fedunlearn.reports.table import comparison_table

        return comparison_table(self.document)

    def save(self, folder: Path | str) -> list[Path]:
        """Write the page, JSON, CSV, Markdown and figures; return what was written."""
        from fedunlearn.reports.write import write_report

        return list(write_report(self.document, Path(folder)))


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
        if RunFolder.exists(path):
            found = cls.open(path)
            # How long and on what it runs may change from one command to the next; what it is may not.
            free = {"rounds": 1, "engine": "local", "timeout": 1.0}
            if found.settings.model_copy(update=free) != wanted.model_copy(update=free):
                raise RunFolderError(
                    f"{path} holds a run with other settings ({_difference(found.settings, wanted)}); "
                    "choose another folder."
                )
            return cls(RunFolder(found.folder, wanted, found._folder.created))
        federation = cls(RunFolder(path.absolute(), wanted, ""))
        federation._check_data()
        return cls(RunFolder.create(path, wanted))

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
        session = self._session()
        last = session.ledger.last_round(MAIN)
        main = session.ledger.branch(MAIN)
        return TrainingSummary(
            rounds=last.number if last else 0,
            test_accuracy=last.metrics.get("test_accuracy") if last else None,
            digest=main.head if main else "",
        )

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
            RequestError: unknown client, a class that it does not hold, nothing to forget, nobody left.
        """
        if client is None and (classes is None or samples is not None):
            raise SettingsError("name a client, or classes alone to forget them everywhere.")
        if client is not None and not 0 <= client < self.settings.clients:
            raise RequestError(f"there is no client {client}; the clients are 0 to {self.settings.clients - 1}.")
        if client is None:
            return self._request_everywhere([int(one) for one in classes or ()])
        asker = self._holding(client)
        if classes is None and samples is None:
            self._check_somebody_stays({client: asker.select()})
        filed = file_request(self._folder.client(client), asker, classes, samples)
        return DeletionRequest(
            filed.id, filed.scope, (client,), filed.classes, len(filed.positions), filed.state, filed.reason
        )

    def requests(self) -> list[DeletionRequest]:
        """All requests: what the ledger knows, and what is filed but not yet taken in."""
        known = {row.id: DeletionRequest.of(row) for row in self._session().ledger.requests()}
        filed: dict[str, DeletionRequest] = {}
        for client in range(self.settings.clients):
            if not (self._folder.clients / str(client)).is_dir():
                continue
            for one in Inbox(self._folder.client(client)).all():
                before = filed.get(one.id)
                filed[one.id] = DeletionRequest(
                    one.id,
                    one.scope,
                    (*(before.clients if before else ()), client),
                    None if one.classes is None else _union(one.classes, before.classes if before else None),
                    len(one.positions) + (before.count if before else 0),
                    one.state,
                    one.reason,
                )
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
        settings = unlearn_settings(method, ratio, rounds, local_epochs, options)
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

        return [self._summary(branch) for branch in self._run(work, "unlearn", on_progress)]

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

        return self._summary(self._run(work, "retrain", on_progress))

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
        rows = [self._session().ledger.request(id) for id in ids]
        names, classes = self._session().dataset.classes, classes_of(rows)
        document = {
            "run": self.settings.model_dump(mode="json"),
            "request": {
                "id": "+".join(ids),
                "scope": rows[0].scope if len({row.scope for row in rows}) == 1 else "several",
                "clients": sorted({target for row in rows for target in row.targets}),
                "classes": None if classes is None else [names[one] for one in classes],
                "count": sum(row.count for row in rows),
            },
            **figures,
            "attribution": self._attribution(ids, figures),
        }
        if pooled:
            self._add_pooled(ids, figures, classes or ())
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

    def _add_pooled(self, ids: list[str], figures: Mapping[str, Any], classes: Sequence[int]) -> None:
        from fedunlearn.pooled_audit import pooled_audit

        session = self._session()
        models = {kind: session.models.load(shown["digest"]) for kind, shown in figures["models"].items()}
        for kind, model in models.items():
            figures["models"][kind] |= pooled_audit(session, ids, models["original"], model, classes)

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
        return Session(self._folder, on_progress)

    def _check_data(self) -> None:
        """Whatever is wrong with task, partition, network or plants is found before a folder is made."""
        session = self._session()
        make_strategy(self.settings.strategy, self.settings.fraction)
        _ = session.architecture  # refuses a network without channels
        for client in range(self.settings.clients):
            holding(self.settings, client, session.dataset)

    def _holding(self, client: int) -> Holding:
        return holding(self.settings, client, self._session().dataset)

    def _request_everywhere(self, classes: list[int]) -> DeletionRequest:
        holdings = [self._holding(client) for client in range(self.settings.clients)]
        held = sorted({one for own in holdings for one in own.classes_held()})
        unknown = [one for one in classes if one not in held]
        if unknown or not classes:
            wrong = f"no client holds a sample of class {unknown[0]}" if unknown else "no class was named"
            raise RequestError(f"{wrong}; classes there: {', '.join(map(str, held))}.")
        classes = sorted(set(classes))
        named = f"class-{'-'.join(map(str, classes))}"
        asked = {}
        for own in holdings:
            present = [one for one in classes if one in own.classes_held()]
            inbox = Inbox(self._folder.client(own.client))
            if not present:
                continue
            positions = own.select(classes=present)
            known = any(request.id == named for request in inbox.all())
            # Who has asked for all of these already, by leaving say, has nothing more to ask.
            if known or not np.isin(positions, inbox.forgotten_positions()).all():
                asked[own.client] = (present, positions)
        if not asked:
            raise RequestError(f"every holder of class {', '.join(map(str, classes))} has already asked to forget it.")
        self._check_somebody_stays({client: positions for client, (_, positions) in asked.items()})
        filed = [
            file_request(self._folder.client(client), holdings[client], present, everywhere=named)
            for client, (present, _) in asked.items()
        ]
        count = sum(len(one.positions) for one in filed)
        return DeletionRequest(
            named, "class-everywhere", tuple(asked), tuple(classes), count, filed[-1].state, filed[-1].reason
        )

    def _check_somebody_stays(self, leaving: Mapping[int, np.ndarray]) -> None:
        """`leaving`: client -> positions that it is about to ask for. Raises RequestError when all data would go."""
        for client in range(self.settings.clients):
            out = np.asarray(leaving.get(client, ()), dtype=np.int64)
            if (self._folder.clients / str(client)).is_dir():
                out = np.union1d(out, Inbox(self._folder.client(client)).forgotten_positions())
            if len(self._holding(client).training_positions(out)):
                return
        raise RequestError(
            "the request would leave the federation without data; at least one client must keep samples to train on."
        )

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

    def _summary(self, branch: BranchRow) -> UnlearningSummary:
        rounds = self._session().ledger.rounds(branch.name)
        phases = self._session().ledger.phases(branch.name)
        return UnlearningSummary(
            requests=str(branch.request_id),
            branch=branch.name,
            method=branch.settings["method"],
            digest=branch.head,
            rounds=len(rounds),
            seconds=sum(row.seconds for row in rounds) + sum(row.seconds for row in phases),
            test_accuracy=rounds[-1].metrics.get("test_accuracy") if rounds else None,
        )

    def _attribution(self, ids: list[str], figures: Mapping[str, Any]) -> dict[str, Any] | None:
        """The first target's scores beside the reference: in simulation its folder is here to be read."""
        session = self._session()
        rows = [session.ledger.request(id) for id in ids]
        first = self._folder.client(min(target for row in rows for target in row.targets))
        path = kept_path(first, "attribution", sorted(ids))
        if figures["method"]["selected"] is None or not path.is_file():
            return None
        mask = comparing.mask_of(session, comparing.unlearned_branch(session, job_for(rows)))
        shown = {}
        with np.load(path, allow_pickle=False) as scores:
            for group in session.architecture.layout.groups:
                chosen = mask.selected.get(group.layer) if mask is not None else None
                shown[group.layer] = {
                    "forget": scores[f"forget:{group.layer}"].tolist(),
                    "reference": scores[f"reference:{group.layer}"].tolist(),
                    "selected": [] if chosen is None else chosen.tolist(),
                }
        return shown


def unlearn_settings(
    method: str,
    ratio: str | float | Mapping[str, float] = "auto",
    rounds: int | None = None,
    local_epochs: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> UnlearnSettings:
    """Checked settings of one unlearning. Raises UnknownName or SettingsError."""
    from fedunlearn.strategies import methods
    from fedunlearn.strategies.method import checked_phases

    values: dict[str, Any] = {"method": method, "ratio": dict(ratio) if isinstance(ratio, Mapping) else ratio}
    own = dict(options or {})
    if rounds is not None:
        values["rounds"] = rounds
    if local_epochs is not None:
        values["local_epochs"] = local_epochs
    if "learning_rate" in own:
        values["learning_rate"] = own.pop("learning_rate")
    settings = make_settings(UnlearnSettings, {**values, "options": own})
    checked_phases(methods.get(method), settings, settings.rounds)
    return settings


def _ids(request: RequestLike | Sequence[DeletionRequest | str]) -> list[str]:
    """Ids of the requests; those that were served together may come as they are shown, joined by "+"."""
    several = [request] if isinstance(request, DeletionRequest | str) else list(request or ())
    return [id for one in several for id in (one.split("+") if isinstance(one, str) else (one.id,))]


def _union(one: Sequence[int], other: Sequence[int] | None) -> tuple[int, ...]:
    return tuple(sorted({*one, *(other or ())}))


def _difference(found: FederationSettings, wanted: FederationSettings) -> str:
    there, here = found.model_dump(), wanted.model_dump()
    return ", ".join(
        f"{name}: {there[name]!r} there, {here[name]!r} asked" for name in there if there[name] != here[name]
    )
