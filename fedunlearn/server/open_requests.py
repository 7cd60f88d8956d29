"""What is done with open requests: each is served, failed or closed, and none keeps the others waiting."""

from __future__ import annotations

from collections.abc import Sequence

from flwr.serverapp import Grid

from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import FedunlearnError
from fedunlearn.server.acceptance import check_acceptable
from fedunlearn.server.branches import (
    MAIN,
    NEVER_LEARNED,
    REFERENCE_REFUSED,
    SERVED,
    TARGET_GONE,
    BranchPlan,
    is_taken_back,
    job_for,
    original_rounds,
    run_branch,
    settings_of,
)
from fedunlearn.server.choosing import OnChoice, choose
from fedunlearn.server.heads import share_head
from fedunlearn.server.ledger_tables import BranchRow, RequestRow
from fedunlearn.server.life_cycle import OPEN, acknowledge
from fedunlearn.server.session import Session
from fedunlearn.strategies.asked import AUTO
from fedunlearn.strategies.localisation import TooFewReferences
from fedunlearn.strategies.roster import Roster, call_roll
from fedunlearn.strategies.serving import Job, TargetGone


def groups_of(rows: Sequence[RequestRow], together: bool) -> list[list[RequestRow]]:
    """What is served at a time."""
    return [list(rows)] if together else [[row] for row in rows]


def serve_open(
    grid: Grid,
    session: Session,
    roster: Roster,
    rows: Sequence[RequestRow],
    settings: UnlearnSettings,
    together: bool = False,
    on_choice: OnChoice | None = None,
) -> tuple[list[BranchRow], list[FedunlearnError]]:
    """The branches of what was served, and why the others failed."""
    found, failures = [], []
    # A model that training was given to start from may have learned from anybody's data.
    if not session.ledger.rounds(MAIN) and session.settings.init is None:
        _nothing_to_forget(grid, session, roster, rows)
        return [], []
    for group in groups_of(rows, together):
        try:
            own = settings
            if settings.method == AUTO:
                choice = choose(session, roster, job_for(group), settings)
                own = choice.settings
                if on_choice is not None:
                    on_choice(choice)
            found.append(_serve_group(grid, session, roster, group, own))
        except FedunlearnError as error:
            failures.append(error)
    return found, failures


def serve_interrupted(grid: Grid, session: Session, settings: UnlearnSettings) -> None:
    """Finish what was being served when the process ended: its targets have heard of it and announce it no more."""
    ledger = session.ledger
    running = {row.id for row in ledger.requests("running")}
    if not running:
        return
    roster = call_roll(grid, session.settings.timeout)
    for branch in reversed(ledger.branches()):
        ids = str(branch.request_id).split("+")
        if branch.kind == "unlearned" and branch.state == "running" and running.issuperset(ids):
            rows = [ledger.request(id) for id in ids]
            serve_open(grid, session, roster, rows, settings_of(branch), together=True)
            running -= set(ids)
    serve_open(grid, session, roster, [ledger.request(id) for id in sorted(running)], settings)


def _nothing_to_forget(grid: Grid, session: Session, roster: Roster, rows: Sequence[RequestRow]) -> None:
    """Close requests that came before the first round: no model has seen their samples, and none will."""
    for row in rows:
        with session.ledger.transaction():
            session.ledger.set_request_state(row.id, "running")
            session.ledger.set_request_state(row.id, "done")
            session.ledger.append_event(NEVER_LEARNED, {"why": "no round of training was finished"}, row.id)
    acknowledge(grid, session.ledger, roster, [row.id for row in rows], session.settings.timeout)


def _serve_group(
    grid: Grid, session: Session, roster: Roster, rows: list[RequestRow], settings: UnlearnSettings
) -> BranchRow:
    ledger, job = session.ledger, job_for(rows)
    open_rows = [row for row in rows if row.state in OPEN]
    for row in open_rows:
        ledger.set_request_state(row.id, "running")
    acknowledge(grid, ledger, roster, [row.id for row in open_rows], session.settings.timeout)
    # One whose model a failed audit has taken back is served by whatever method comes next.
    to_be_served = bool(open_rows) or is_taken_back(session, job)
    try:
        found = _unlearned(grid, session, roster, job, settings)
        if to_be_served:
            check_acceptable(grid, session, roster, job, rows, found)
    except FedunlearnError as error:
        for row in open_rows:
            ledger.set_request_state(row.id, "failed", str(error))
        acknowledge(grid, ledger, roster, [row.id for row in open_rows], session.settings.timeout)
        raise
    if to_be_served:
        with ledger.transaction():
            ledger.move_head(MAIN, found.head, SERVED, {"request": "+".join(job.requests)})
            for row in open_rows:
                ledger.set_request_state(row.id, "done")
    acknowledge(grid, ledger, roster, [row.id for row in rows], session.settings.timeout)
    share_head(grid, session, roster)
    return found


def _unlearned(grid: Grid, session: Session, roster: Roster, job: Job, settings: UnlearnSettings) -> BranchRow:
    try:
        return run_branch(grid, session, roster, job, BranchPlan("unlearned", settings))
    except (TargetGone, TooFewReferences) as why:
        rounds = original_rounds(session, job)
        if not rounds:
            raise  # of a training that took place elsewhere there is nothing to repeat
        # Nothing can be localised without the target, or the others' mean; starting again needs neither.
        # Of what was asked of the method it takes none: neither options nor rates are meant for a whole training.
        whole = UnlearnSettings(method="retrain", rounds=rounds, local_epochs=session.settings.local_epochs)
        detail = {"why": str(why), "instead": "retrain", "asked": settings.method}
        kind = TARGET_GONE if isinstance(why, TargetGone) else REFERENCE_REFUSED
        session.ledger.append_event(kind, detail, "+".join(job.requests))
        return run_branch(grid, session, roster, job, BranchPlan("unlearned", whole))
