"""Makes the models of one case of the self-test; what a killed run has finished is not made again."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from fedunlearn.federation import Federation
from fedunlearn.local_clients import with_clients
from fedunlearn.progress import OnProgress
from fedunlearn.self_test.cases import NOTHING, ROLLED_BACK, WRONG, Case
from fedunlearn.server.branches import BranchPlan, run_branch
from fedunlearn.server.judging import case_of, measured_figures
from fedunlearn.server.ledger import MAIN
from fedunlearn.server.life_cycle import gather
from fedunlearn.server.primary_figures import Figure
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.session import Session
from fedunlearn.strategies.method import ModelState
from fedunlearn.strategies.roster import call_roll

METHOD = "method under test"
"""Name of what the method itself made of the request."""


def prepare(job: Mapping[str, Any]) -> dict[str, Any]:
    """`make_subjects` in a process of its own (see `map_jobs`)."""
    request, digests = make_subjects(Case(**job["case"]), Path(job["out"]))
    return {"request": request, "digests": digests}


def make_subjects(case: Case, out: Path) -> tuple[str, dict[str, str]]:
    """Train, ask, unlearn and take every shortcut.

    Returns:
        The request's id, and the digest of each subject and of the method's own model.
    """
    folder = out / "runs" / case.name
    federation = Federation.simulate(out=folder, **case.federation)
    federation.train()
    elsewhere = _copied(folder)
    filed = federation.request_deletion(**case.request)
    federation.unlearn_with(filed, case.method)
    session = Session(RunFolder.open(folder))
    found = {METHOD: case_of(session, [filed.id]).branch.head}
    older = {row.number: row.digest_after for row in session.ledger.rounds(MAIN)}
    if NOTHING in case.subjects:
        found[NOTHING] = case_of(session, [filed.id]).original
    if ROLLED_BACK in case.subjects:
        found[ROLLED_BACK] = older[case.rolled_back]
    if WRONG in case.subjects:
        found[WRONG] = session.models.save(_wrong(case, elsewhere))
    return filed.id, found | with_clients(session, lambda grid: _branches(grid, session, case, filed.id))


def session_of(case: Case, out: Path, on_progress: OnProgress | None = None) -> Session:
    """The run of a case."""
    return Session(RunFolder.open(out / "runs" / case.name), on_progress)


def measure(case: Case, out: Path, request: str, digests: Iterable[str]) -> dict[str, Mapping[str, Figure]]:
    """Digest -> figures on the forget set of the case's request."""
    session = session_of(case, out)

    def work(grid: Grid) -> dict[str, Mapping[str, Figure]]:
        roster = call_roll(grid, session.settings.timeout)
        of = measured_figures(grid, session, roster, case_of(session, [request]))
        return {digest: of(digest) for digest in digests}

    return with_clients(session, work)


def _branches(grid: Grid, session: Session, case: Case, request: str) -> dict[str, str]:
    roster, _ = gather(grid, session.ledger, session.settings.timeout)
    job = case_of(session, [request]).job
    plans = {name: subject.settings for name, subject in case.subjects.items() if subject.settings is not None}
    return {name: run_branch(grid, session, roster, job, BranchPlan(name, plan)).head for name, plan in plans.items()}


def _copied(folder: Path) -> Path:
    """A copy of a trained run in which nothing has been asked yet."""
    copy, unfinished = folder.with_name(f"{folder.name}-wrong"), folder.with_name(f"{folder.name}-copying")
    if not copy.is_dir():
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(folder, unfinished)
        unfinished.rename(copy)
    return copy


def _wrong(case: Case, folder: Path) -> ModelState:
    """What the method makes of another request."""
    federation = Federation.open(folder)
    filed = federation.request_deletion(**case.wrong)
    federation.unlearn_with(filed, case.method)
    session = Session(RunFolder.open(folder))
    return session.models.load(case_of(session, [filed.id]).branch.head)
