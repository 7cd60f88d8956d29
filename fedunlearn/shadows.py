"""Shadows: other originals that went through the same unlearning, for the audits that compare many of either kind.

Each is trained from a seed of its own on what the audited original was trained on, the forget set included, and then
unlearned as the audited one was. No client of the run trains again on what it has asked to forget: a shadow lives in a
run folder of its own, where nothing has been asked for yet, and which only a simulation can fill. That folder is gone
when the shadow is there; what stays is the unlearned model.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from fedunlearn.clients.inbox import Inbox
from fedunlearn.config import UnlearnSettings
from fedunlearn.engines.mapping import map_jobs
from fedunlearn.errors import RunFolderError
from fedunlearn.files import atomic_write_json, make_folder, read_json
from fedunlearn.local_clients import with_clients
from fedunlearn.plugins import plugged_in
from fedunlearn.server.band import BandPlan
from fedunlearn.server.branches import settings_of, wrapped_strategy
from fedunlearn.server.judging import Case, case_of
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.session import Session
from fedunlearn.server.shadow_record import record_shadow
from fedunlearn.strategies import methods
from fedunlearn.strategies.method import ModelState, State
from fedunlearn.strategies.roster import call_roll
from fedunlearn.strategies.serving import ForgetfulRecorder, Job, serve

NOBODY = Job((), (), frozenset())


@dataclass(frozen=True)
class Shadow:
    """One shadow: its number, the seed of its original, the digest of the unlearned model, and what it took."""

    number: int
    seed: int
    digest: str
    seconds: float


@dataclass(frozen=True)
class Shadows:
    """Those that are there, and why there are no more of them; an empty sentence where nothing is lacking."""

    members: tuple[Shadow, ...] = ()
    why: str = ""

    def document(self) -> dict[str, Any]:
        """As an audit's document holds them."""
        return {
            "size": len(self.members),
            "digests": [one.digest for one in self.members],
            "seconds": sum(one.seconds for one in self.members),
            "why": self.why,
        }


def shadows_of(session: Session, case: Case, plan: BandPlan, size: int, processes: int | None) -> Shadows:
    """The first `size` shadows of an unlearning; those that lack are made, in parallel, and kept for later audits.

    Args:
        plan: of the band that they are compared with.
        processes: shadows at a time; None: one a core.
    """
    why = _cannot(session, case)
    if why or not size:
        return Shadows((), why)
    key = _key(case, plan)
    done = {one.number: one for one in _known(session, key)}
    _tidy(session)
    numbers = [number for number in range(1, size + 1) if number not in done]
    audited = {"requests": list(case.job.requests), "method": case.branch.settings["method"]}
    jobs = [{"run": str(session.folder.path), **audited, "number": number, "key": key} for number in numbers]

    def tell(index: int, shadow: Mapping[str, Any]) -> None:
        done[int(shadow["number"])] = Shadow(**shadow)
        _record(session, case, key, done[int(shadow["number"])])
        session.tell("training shadows", len(done), size, f"shadow {shadow['number']}")

    if jobs:
        session.tell("training shadows", len(done), size)
        map_jobs("fedunlearn.shadows:make_shadow", jobs, processes, tell, plugged_in())
    for shadow in done.values():
        # One that was finished just before its process ended is not in the ledger yet.
        _record(session, case, key, shadow)
    return Shadows(tuple(done[number] for number in range(1, size + 1)))


def make_shadow(job: Mapping[str, Any]) -> dict[str, Any]:
    """One shadow, in a process of its own (see `map_jobs`): what `Shadow` holds, as JSON."""
    session = Session(RunFolder.open(job["run"]))
    case = case_of(session, job["requests"], job["method"])
    number, key = int(job["number"]), str(job["key"])
    started, beside = time.monotonic(), _folder(session, key, number)
    shutil.rmtree(beside, ignore_errors=True)
    settings = session.settings.model_copy(update={"engine": "local", "workers": 0})
    try:
        own = Session(RunFolder.create(beside, settings))
        if settings.init is not None:
            own.models.save(session.models.load(settings.init))
        _file(session, own, lambda id: id not in case.job.requests)
        original = with_clients(own, lambda grid: _trained(grid, own, case, number))
        _file(session, own, lambda id: id in case.job.requests)
        model = with_clients(own, lambda grid: _unlearned(grid, own, case, number, original))
        shadow = Shadow(number, original.seed, session.models.save(model), time.monotonic() - started)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    make_folder(session.folder.audit)
    atomic_write_json(_path(session, key, number), {"key": key, "shadow": asdict(shadow)})
    return asdict(shadow)


def _trained(grid: Grid, own: Session, case: Case, number: int) -> State:
    """An original from a seed of its own, on everything that nobody has asked to forget by then."""
    recipe = UnlearnSettings(method="retrain", rounds=case.rounds, local_epochs=own.settings.local_epochs)
    blank = dict(own.blank.state_dict())
    state = wrapped_strategy(own).state_for(NOBODY, blank, recipe, f"shadow-{number}")
    return _served(grid, own, state, NOBODY)


def _unlearned(grid: Grid, own: Session, case: Case, number: int, original: State) -> ModelState:
    """What the audited unlearning makes of another original."""
    settings = settings_of(case.branch)
    state = wrapped_strategy(own).state_for(case.job, original.model, settings, f"shadow-{number}")
    state = replace(state, initial=original.fresh, rounds=case.rounds, server_data=own.server_data, task=own.task)
    return _served(grid, own, state, case.job).model


def _served(grid: Grid, own: Session, state: State, job: Job) -> State:
    timeout, fraction = own.settings.timeout, own.settings.fraction
    roster, method = call_roll(grid, timeout), methods.get(state.settings.method)
    return serve(grid, roster, method, state, job, ForgetfulRecorder(), timeout, fraction)


def _file(session: Session, own: Session, wanted: Any) -> None:
    """Put the requests that are wanted into the shadow's inboxes as they were filed in the run."""
    for client in range(session.settings.clients):
        for request in Inbox(session.folder.client(client)).all():
            if request.state != "refused" and wanted(request.id):
                Inbox(own.folder.client(client)).file(request)


def _cannot(session: Session, case: Case) -> str:
    """Why no shadow can be made, in one sentence; "" where they can."""
    if not all((session.folder.clients / str(client)).is_dir() for client in range(session.settings.clients)):
        return (
            "shadows are trained on the forgotten samples again, which no client does: only a simulation can make "
            "them, where all clients' folders are the run's own."
        )
    if not session.models.has(case.original):
        return f"what descends from the data of {case.requests} was erased, and is not trained on again."
    needs = methods.get(case.branch.settings["method"]).needs & {"stored-updates", "prepared-clients"}
    if needs:
        return (
            f"method {case.branch.settings['method']!r} works from what is kept while a federation trains, and none of "
            "that is kept of a shadow's training."
        )
    return ""


def _key(case: Case, plan: BandPlan) -> str:
    """SHA-256 of all that the shadows depend on."""
    own = {name: case.branch.settings[name] for name in UnlearnSettings.model_fields}
    text = json.dumps({"band": plan.key, "job": list(case.job.requests), "settings": own}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _known(session: Session, key: str) -> Sequence[Shadow]:
    found = []
    for path in session.folder.audit.glob(f"shadow-{key[:16]}-*.json"):
        try:
            content = read_json(path)
            shadow = Shadow(**content["shadow"])
            if content["key"] == key and session.models.has(shadow.digest):
                found.append(shadow)
        except (RunFolderError, KeyError, TypeError):
            continue  # damaged: it is made again, and the file replaced
    return found


def _record(session: Session, case: Case, key: str, shadow: Shadow) -> None:
    filed = [row.id for row in session.ledger.requests() if row.state != "refused" and row.id not in case.job.requests]
    record_shadow(session.ledger, {"key": key, "of": case.requests, "without": sorted(filed), **asdict(shadow)})


def _tidy(session: Session) -> None:
    """Delete folders that killed processes left."""
    for path in session.folder.audit.glob("shadow-*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def _folder(session: Session, key: str, number: int) -> Path:
    return session.folder.audit / f"shadow-{key[:16]}-{number:03d}"


def _path(session: Session, key: str, number: int) -> Path:
    return session.folder.audit / f"shadow-{key[:16]}-{number:03d}.json"
