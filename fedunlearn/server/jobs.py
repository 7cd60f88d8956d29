"""The jobs of the server: train the federation, serve its requests, run a branch for comparison."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch
from flwr.app import ArrayRecord, MetricRecord
from flwr.serverapp import Grid

from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import RequestError, SettingsError
from fedunlearn.progress import in_words
from fedunlearn.server import initial_model
from fedunlearn.server.branches import (
    MAIN,
    BranchPlan,
    job_for,
    original_rounds,
    run_branch,
    served_digest,
    supplies_of,
    wrapped_strategy,
)
from fedunlearn.server.choosing import OnChoice
from fedunlearn.server.examiner import Examiner
from fedunlearn.server.heads import share_head
from fedunlearn.server.kept_updates import UpdateKeeper, rounds_between
from fedunlearn.server.ledger_tables import BranchRow, RequestRow, RoundRow
from fedunlearn.server.life_cycle import OPEN, gather, incomplete, receive, register_keys
from fedunlearn.server.open_requests import groups_of, serve_interrupted, serve_open
from fedunlearn.server.session import Session
from fedunlearn.strategies import methods
from fedunlearn.strategies.asked import AUTO, settings_beside
from fedunlearn.strategies.content import state_of, state_record
from fedunlearn.strategies.inner import optimizer_state, restore_optimizer_state
from fedunlearn.strategies.method import ModelState
from fedunlearn.strategies.roster import Roster
from fedunlearn.strategies.serving import Job, check_needs, check_serves

GUESSING = 1.1
"""Up to so many times the accuracy of guessing a model counts as one that learned nothing."""

log = logging.getLogger(__name__)


def train(grid: Grid, session: Session, rounds: int | None = None, unlearn: UnlearnSettings | None = None) -> None:
    """Train until `rounds` rounds are finished, serving between two rounds what arrives meanwhile.

    A training that was killed goes on after its last finished round.
    """
    settings, ledger, models = session.settings, session.ledger, session.models
    total = settings.rounds if rounds is None else rounds
    if ledger.branch(MAIN) is None:
        start = models.save(session.fresh(settings.seed))
        facts = None if settings.init is None else initial_model.facts_of(session.folder)
        with ledger.transaction():
            ledger.create_branch(MAIN, MAIN, start)
            if facts is not None:
                ledger.append_event(initial_model.RECORDED, facts)
    last = ledger.last_round(MAIN)
    done = 0 if last is None else last.number
    if done >= total:
        ledger.set_branch_state(MAIN, "done")
        return
    unlearn = unlearn or settings_beside(settings, {})
    serve_interrupted(grid, session, unlearn)

    def serve_pending(grid: Grid, roster: Roster, model: ModelState) -> ModelState:
        rows = receive(grid, ledger, roster, settings.timeout)
        # One that fails stays open, with its reason in the ledger; training goes on without its samples.
        serve_open(grid, session, roster, [row for row in rows if row.state in OPEN], unlearn)
        return models.load(served_digest(session))

    keeper = UpdateKeeper(models, rounds_between(settings.prepared_methods))
    strategy = wrapped_strategy(session, serve_pending=serve_pending, first_round=done + 1, keep_update=keeper.keep)
    # Once an unlearned model is served, what the optimiser remembers of the rounds before is out of date.
    if last is not None and last.extras and last.digest_after == served_digest(session):
        restore_optimizer_state(strategy.inner, {n: t.numpy() for n, t in models.load(last.extras).items()})

    def record(finished: int, arrays: ArrayRecord) -> MetricRecord | None:
        if finished == 0:
            return None
        if finished == 1:
            register_keys(ledger, strategy.roster)
            for sentence in strategy.roster.absent:
                ledger.append_event("client-absent", {"branch": MAIN, "why": sentence})
        before = served_digest(session)
        model = state_of(arrays)
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
                metrics={
                    **figures,
                    "passes": {str(a.client): settings.local_epochs for a in outcome.answers},
                    "processed": {
                        str(a.client): settings.local_epochs * float(a.metrics["num-examples"])  # type: ignore[arg-type]
                        for a in outcome.answers
                    },
                    **keeper.named(done + finished),
                },
                seconds=outcome.seconds,
                extras=models.save(kept) if kept else None,
                seed=settings.seed,
            )
        )
        for client, sentence in outcome.dropped:
            ledger.append_event("client-dropped", {"branch": MAIN, "client": client, "why": sentence})
        session.tell("train", done + finished, total, in_words(figures))
        return None

    initial = state_record(models.load(served_digest(session)))
    # A client's own time is cut by the engine; the round as a whole waits for all of them.
    patience = settings.timeout * settings.clients
    strategy.start(grid, initial, num_rounds=total - done, timeout=patience, evaluate_fn=record)
    ledger.set_branch_state(MAIN, "done")
    trained = ledger.last_round(MAIN)
    if trained is not None and (sentence := learned_nothing(trained.metrics)) is not None:
        log.warning("%s", sentence)
    final = models.load(served_digest(session))
    Examiner(session, grid, strategy.roster, final).hand_out(final)
    share_head(grid, session, strategy.roster)


def learned_nothing(figures: Mapping[str, object]) -> str | None:
    """A sentence for a round whose model answers no better than guessing, by its figures on the test set; else None.

    Where these are of one class alone, the sentence says that nothing can be told.
    """
    by_class = figures.get("test_accuracy_by_class")
    if not isinstance(by_class, Mapping):
        return None
    # A class without test samples has no accuracy.
    shares = [share for share in by_class.values() if share is not None]
    if len(shares) == 1 < len(by_class):
        return (
            f"all test samples are of one of the {len(by_class)} classes, so that no accuracy says whether the model "
            "has learned to tell them apart; test with samples of every class."
        )
    if not shares or (mean := sum(shares) / len(shares)) > GUESSING / len(shares):
        return None
    return (
        f"the trained model is right on {mean:.1%} of a class's test samples on average, and guessing among "
        f"{len(shares)} classes gives {1 / len(shares):.1%}: it has learned nothing that a client could ask to "
        "have forgotten; try a lower learning rate, or more rounds."
    )


def unlearn(
    grid: Grid,
    session: Session,
    settings: UnlearnSettings,
    ids: Sequence[str] | None = None,
    together: bool = False,
    on_choice: OnChoice | None = None,
) -> list[BranchRow]:
    """Serve requests, one after the other or all at once; None for every open one.

    The method "auto" is replaced, for each of them, by the cheapest that can serve it; `on_choice` is told of it first.

    One that fails does not keep the others waiting; the first failure is raised in the end. A request that is done
    already can be served again by another method: the result is a branch for comparison, and the served model stays.

    Raises:
        RequestError: as `check_unlearning`, or none is open, or the method does not serve one that was named.
        SettingsError: as `check_unlearning`.
    """
    check_unlearning(session, settings, ids, together)
    roster, heard = gather(grid, session.ledger, session.settings.timeout)
    _check_complete(session, roster, ids)
    rows = session.ledger.requests(*OPEN) if ids is None else [session.ledger.request(id) for id in ids]
    _check_not_refused(rows or heard)
    if not rows:
        raise RequestError("there is no open request; file one with `fedunlearn request RUN --client ID`.")
    if settings.method != AUTO and ids is not None:
        for group in groups_of(rows, together):
            check_serves(methods.get(settings.method), job_for(group), roster)
    found, failures = serve_open(grid, session, roster, rows, settings, together, on_choice)
    if failures:
        raise failures[0]
    return found


def check_unlearning(
    session: Session, settings: UnlearnSettings, ids: Sequence[str] | None = None, together: bool = False
) -> None:
    """Find what is wrong with a call before a client is asked or anything written.

    Raises:
        RequestError: nothing has been trained, a request was refused, or the run lacks what the method needs.
        SettingsError: the ratio names a layer that has no channels.
    """
    _check_layers(session, settings)
    served_digest(session)
    named = [row for row in session.ledger.requests() if ids is not None and row.id in ids]
    _check_not_refused(named)
    if settings.method != AUTO:
        # One that is not taken in yet finds the model that is served, as a job of no request does.
        for job in [job_for(group) for group in groups_of(named, together)] or [Job((), (), frozenset())]:
            check_needs(methods.get(settings.method), supplies_of(session, job), settings)


def serve_rest(grid: Grid, session: Session) -> None:
    """Serve what arrived during the last round, if anything did. Raises the first failure in the end."""
    roster, _ = gather(grid, session.ledger, session.settings.timeout)
    rows = session.ledger.requests(*OPEN)
    _, failures = serve_open(grid, session, roster, rows, settings_beside(session.settings, {}))
    if failures:
        raise failures[0]


def retrain(grid: Grid, session: Session, ids: Sequence[str], rounds: int | None = None) -> BranchRow:
    """Retrain without the forget set, for comparison; the served model stays. What is finished is not run again.

    Args:
        rounds: None: as many as the model that the requests found had.
    """
    roster, _ = gather(grid, session.ledger, session.settings.timeout)
    job = job_for([session.ledger.request(id) for id in ids])
    whole = original_rounds(session, job)
    if not (rounds or whole):
        raise RequestError(
            "the model that the request found was not trained here, so that there are no rounds to repeat; say how "
            "many."
        )
    kind = "retrained" if rounds in (None, whole) else "retrained-shorter"
    settings = UnlearnSettings(method="retrain", rounds=rounds or whole, local_epochs=session.settings.local_epochs)
    branch = run_branch(grid, session, roster, job, BranchPlan(kind, settings))
    share_head(grid, session, roster)
    return branch


def _check_not_refused(rows: Sequence[RequestRow]) -> None:
    for row in rows:
        if row.state == "refused":
            raise RequestError(f"request {row.id} was refused: {row.reason}")


def _check_layers(session: Session, settings: UnlearnSettings) -> None:
    if isinstance(settings.ratio, dict):
        layers = [group.layer for group in session.architecture.layout.groups]
        for layer in settings.ratio:
            if layer not in layers:
                raise SettingsError(f"ratio: there is no layer {layer!r} with channels; layers: {', '.join(layers)}.")


def _check_complete(session: Session, roster: Roster, ids: Sequence[str] | None) -> None:
    """Raise RequestError when a request that is to be served is not filed by all of its holders yet."""
    for id, (have, of) in incomplete(roster.announced).items():
        wanted = id in ids if ids is not None else not session.ledger.requests(*OPEN)
        if wanted and not session.ledger.has_request(id):
            raise RequestError(
                f"request {id} is filed by {have} of its {of} holders so far: give the `fedunlearn request` command "
                f"again, which completes it, or wait for the clients that are away."
            )
