"""The jobs of the server: train the federation, serve its requests, run a branch for comparison."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from flwr.app import ArrayRecord, MetricRecord
from flwr.serverapp import Grid

from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import FedunlearnError, RequestError
from fedunlearn.server.branches import MAIN, BranchPlan, base_digest, job_for, run_branch, wrapped_strategy
from fedunlearn.server.examiner import Examiner
from fedunlearn.server.ledger_tables import BranchRow, RequestRow, RoundRow
from fedunlearn.server.life_cycle import OPEN, acknowledge, take_in
from fedunlearn.server.session import Session
from fedunlearn.strategies.content import array_record, numpy_arrays
from fedunlearn.strategies.inner import optimizer_state, restore_optimizer_state
from fedunlearn.strategies.method import ModelState
from fedunlearn.strategies.roster import Roster, call_roll
from fedunlearn.strategies.serving import TargetGone


def train(grid: Grid, session: Session, rounds: int | None = None, unlearn: UnlearnSettings | None = None) -> None:
    """Train until `rounds` rounds are finished, serving between two rounds what arrives meanwhile.

    A training that was killed goes on after its last finished round.
    """
    settings, ledger, models = session.settings, session.ledger, session.models
    total = rounds or settings.rounds
    if ledger.branch(MAIN) is None:
        ledger.create_branch(MAIN, MAIN, models.save(session.fresh(settings.seed)))
    last = ledger.last_round(MAIN)
    done = 0 if last is None else last.number
    if done >= total:
        return

    def serve_pending(grid: Grid, roster: Roster, model: ModelState) -> ModelState:
        rows = take_in(ledger, roster, _finished(session))
        _serve_open(grid, session, roster, rows, unlearn or UnlearnSettings())
        return models.load(_head(session))

    strategy = wrapped_strategy(session, serve_pending=serve_pending, first_round=done + 1)
    if last is not None and last.extras:
        restore_optimizer_state(strategy.inner, {n: t.numpy() for n, t in models.load(last.extras).items()})

    def record(finished: int, arrays: ArrayRecord) -> MetricRecord | None:
        if finished == 0:
            return None
        before = _head(session)
        model = {name: torch.from_numpy(array.copy()) for name, array in numpy_arrays(arrays).items()}
        examiner = Examiner(session, grid, strategy.roster, model)
        kept = {name: torch.from_numpy(array) for name, array in optimizer_state(strategy.inner).items()}
        outcome = strategy.last_round
        figures = examiner.on_test(model)
        ledger.record_round(
            RoundRow(
                branch=MAIN,
                number=done + finished,
                digest_before=before,
                digest_after=models.save(model),
                participants=tuple(answer.client for answer in outcome.answers),
                dropped=outcome.dropped,
                bytes={"train": {str(client): dict(count) for client, count in outcome.bytes.items()}},
                metrics={**figures, "epochs": settings.local_epochs},
                seconds=outcome.seconds,
                extras=models.save(kept) if kept else None,
            )
        )
        for client, sentence in outcome.dropped:
            ledger.append_event("client-dropped", {"branch": MAIN, "client": client, "why": sentence})
        session.tell("train", done + finished, total, f"test accuracy {figures['test_accuracy']:.3f}")
        return None

    initial = array_record({name: tensor.numpy() for name, tensor in models.load(_head(session)).items()})
    # A client's own time is cut by the engine; the round as a whole waits for all of them.
    patience = settings.timeout * settings.clients
    strategy.start(grid, initial, num_rounds=total - done, timeout=patience, evaluate_fn=record)
    ledger.set_branch_state(MAIN, "done")
    final = models.load(_head(session))
    Examiner(session, grid, strategy.roster, final).hand_out(final)


def unlearn(
    grid: Grid,
    session: Session,
    settings: UnlearnSettings,
    ids: Sequence[str] | None = None,
    together: bool = False,
) -> list[BranchRow]:
    """Serve requests, one after the other or all at once; None for every open one.

    A request that is done already can be served again by another method: the result is a branch for comparison,
    and the served model stays.

    Raises:
        RequestError: an unknown or refused request, or none is open.
    """
    roster = call_roll(grid, session.settings.timeout)
    take_in(session.ledger, roster, _finished(session))
    if ids is None:
        rows = session.ledger.requests(*OPEN)
        if not rows:
            raise RequestError("there is no open request; file one with `fedunlearn request RUN --client ID`.")
    else:
        rows = [session.ledger.request(id) for id in ids]
    refused = [row for row in rows if row.state == "refused"]
    if refused:
        raise RequestError(f"request {refused[0].id} was refused: {refused[0].reason}")
    return _serve_open(grid, session, roster, rows, settings, together)


def branch(grid: Grid, session: Session, ids: Sequence[str], plans: Sequence[BranchPlan]) -> list[BranchRow]:
    """Run branches for comparison; the served model stays. Branches that are finished are not run again."""
    roster = call_roll(grid, session.settings.timeout)
    take_in(session.ledger, roster, _finished(session))
    job = job_for([session.ledger.request(id) for id in ids])
    return [run_branch(grid, session, roster, job, plan) for plan in plans]


def _serve_open(
    grid: Grid,
    session: Session,
    roster: Roster,
    rows: Sequence[RequestRow],
    settings: UnlearnSettings,
    together: bool = False,
) -> list[BranchRow]:
    groups = [list(rows)] if together else [[row] for row in rows]
    return [
        _serve_group(grid, session, roster, group, settings)
        for group in groups
        if group and all(row.state != "refused" for row in group)
    ]


def _serve_group(
    grid: Grid, session: Session, roster: Roster, rows: list[RequestRow], settings: UnlearnSettings
) -> BranchRow:
    ledger, job = session.ledger, job_for(rows)
    open_rows = [row for row in rows if row.state in OPEN]
    for row in open_rows:
        ledger.set_request_state(row.id, "running")
    acknowledge(grid, ledger, roster, [row.id for row in open_rows], session.settings.timeout)
    try:
        found = run_branch(grid, session, roster, job, BranchPlan("unlearned", settings))
    except TargetGone as gone:
        # Nothing can be localised without the target; starting again without its data needs nobody's help.
        fallback = settings.model_copy(update={"method": "retrain", "rounds": session.settings.rounds})
        detail = {"why": str(gone), "instead": "retrain", "asked": settings.method}
        ledger.append_event("target-gone", detail, "+".join(job.requests))
        found = run_branch(grid, session, roster, job, BranchPlan("unlearned", fallback))
    except FedunlearnError as error:
        for row in open_rows:
            ledger.set_request_state(row.id, "failed", str(error))
        acknowledge(grid, ledger, roster, [row.id for row in open_rows], session.settings.timeout)
        raise
    if open_rows:
        with ledger.transaction():
            if ledger.branch(MAIN) is not None and _head(session) == base_digest(session, job):
                ledger.move_head(MAIN, found.head, "unlearned-model-served", {"request": "+".join(job.requests)})
            for row in open_rows:
                ledger.set_request_state(row.id, "done")
    acknowledge(grid, ledger, roster, [row.id for row in rows], session.settings.timeout)
    return found


def _head(session: Session) -> str:
    row = session.ledger.branch(MAIN)
    if row is None:
        raise RequestError("the federation has not been trained yet; run `fedunlearn simulate` or `.train()` first.")
    return row.head


def _finished(session: Session) -> int:
    last = session.ledger.last_round(MAIN)
    return 0 if last is None else last.number


