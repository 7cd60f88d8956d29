"""A branch: what one method makes of one job, starting from the model that the request found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from flwr.serverapp import Grid

from fedunlearn.channels.mask import ChannelMask
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import RequestError
from fedunlearn.server.examiner import Examiner
from fedunlearn.server.history import history_of
from fedunlearn.server.ledger import MAIN
from fedunlearn.server.ledger_tables import BranchRow, EventRow, RequestRow
from fedunlearn.server.recorder import LedgerRecorder, mask_among
from fedunlearn.server.session import Session
from fedunlearn.strategies import methods
from fedunlearn.strategies.inner import make_strategy
from fedunlearn.strategies.method import Phase, State
from fedunlearn.strategies.roster import Roster
from fedunlearn.strategies.serving import Job, Supplies, classes_gone, serve
from fedunlearn.strategies.unlearning import UnlearningStrategy

SERVED = "unlearned-model-served"
"""The event of an unlearned model becoming the one that is served."""
RESTORED = "served-model-restored"
"""The event of a failed audit: the model before is served again, and the data stays out."""

NEVER_LEARNED = "nothing-to-forget"
"""The event of a request that came before the first round: it is done, and nothing was run for it."""

TARGET_GONE = "target-gone"
REFERENCE_REFUSED = "reference-refused"
REPLACED = (TARGET_GONE, REFERENCE_REFUSED)
"""The events of a method that could not be run as it was asked for: "asked", "why", and what ran "instead"."""


@dataclass(frozen=True)
class BranchPlan:
    """What is to be run.

    Attributes:
        kind: its role in a comparison ("unlearned", "retrained", "fine-tuned", …), the seed's name too.
        settings: method, rounds and so on.
        start: digest of the model it starts from; None for the one that the request found.
    """

    kind: str
    settings: UnlearnSettings
    start: str | None = None

    def name(self, job: Job, base: str) -> str:
        """Unique for job, kind, settings and model, so that the same command finds its own work again."""
        values = {"settings": self.settings.model_dump(mode="json"), "base": base, "start": self.start}
        text = json.dumps(values, sort_keys=True)
        return f"{'+'.join(job.requests)}/{self.kind}/{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def job_for(rows: list[RequestRow]) -> Job:
    """Requests of the ledger as one job."""
    return Job(
        requests=tuple(sorted(row.id for row in rows)),
        targets=tuple(sorted({target for row in rows for target in row.targets})),
        scopes=frozenset(row.scope for row in rows),  # type: ignore[misc]
        classes=_gone(rows),
    )


def _gone(rows: Iterable[RequestRow]) -> tuple[int, ...]:
    return classes_gone((row.scope, row.classes) for row in rows)


def classes_of(rows: Sequence[RequestRow]) -> tuple[int, ...] | None:
    """The classes that the requests name, all together; None when none names any."""
    return tuple(sorted({label for row in rows for label in row.classes or ()})) or None


def base_digest(session: Session, job: Job) -> str:
    """Digest of the model that the job found: the one that its unlearned model replaced, or else the served one."""
    found = _found(session, job)
    return found if found is not None else served_digest(session)


def is_taken_back(session: Session, job: Job) -> bool:
    """Whether the job's unlearned model was served and, after a failed audit, is not any more."""
    return bool(_of_job(session, job, RESTORED)) and _found(session, job) is None


def _found(session: Session, job: Job) -> str | None:
    """The model that the job's unlearned model replaced; None when none is served, or none is any longer."""
    served, restored = _of_job(session, job, SERVED), _of_job(session, job, RESTORED)
    if not served or (restored and restored[-1].id > served[-1].id):
        return None
    return str(served[-1].detail["from"])


def _of_job(session: Session, job: Job, kind: str) -> list[EventRow]:
    requests = "+".join(job.requests)
    return [event for event in session.ledger.events(kind) if event.detail["request"] == requests]


def original_rounds(session: Session, job: Job) -> int:
    """Rounds of ordinary training that the model which the job found had; what retraining repeats."""
    return rounds_behind(session, base_digest(session, job))


def rounds_behind(session: Session, digest: str) -> int:
    """Rounds of ordinary training that a model of the main branch had."""
    finished = {row.digest_after: row.number for row in session.ledger.rounds(MAIN)}
    # Requests that were served in the same pause between two rounds made the base out of each other.
    found_by = {str(event.detail["to"]): str(event.detail["from"]) for event in session.ledger.events(SERVED)}
    while digest not in finished and digest in found_by:
        digest = found_by.pop(digest)
    # Before the first round there is nothing to repeat; the settings say what was meant.
    return finished.get(digest) or session.settings.rounds


def served_digest(session: Session) -> str:
    """Digest of the model that is served. Raises RequestError before the first training."""
    main = session.ledger.branch(MAIN)
    if main is None:
        raise RequestError("the federation has not been trained yet; run `fedunlearn simulate` or `.train()` first.")
    return main.head


def was_served(session: Session, branch: BranchRow) -> bool:
    """Whether the branch's model was taken into use, at present or not."""
    return any(event.detail["to"] == branch.head for event in session.ledger.events(SERVED))


def unlearned_branch(session: Session, ids: Sequence[str], method: str | None = None) -> BranchRow:
    """The last finished branch that unlearned these requests, by `method` if it is named.

    Raises:
        RequestError: there is none.
    """
    wanted, found = "+".join(sorted(ids)), unlearned_branches(session, ids)
    by_method = {str(branch.settings["method"]): branch for branch in found}
    if found and method is None:
        return found[-1]
    if method in by_method:
        return by_method[method]
    if found:
        raise RequestError(
            f"request {wanted} was not unlearned by {method!r}, but by {', '.join(by_method)}; name one of these, or "
            f"have {method!r} serve it first."
        )
    for branch in unlearned_branches(session):
        if set(ids) & set(str(branch.request_id).split("+")):
            raise RequestError(f"request {wanted} was served together with others; name all: {branch.request_id}.")
    if any(session.ledger.events(NEVER_LEARNED, id) for id in ids):
        raise RequestError(
            f"request {wanted} came before the first round of training: no model has known its samples, so that there "
            "is nothing to compare or to audit."
        )
    raise RequestError(f"request {wanted} has not been served yet; run `fedunlearn unlearn RUN` first.")


def unlearned_branches(session: Session, ids: Sequence[str] | None = None) -> list[BranchRow]:
    """Finished branches that unlearned these requests together; None: any."""
    done = [one for one in session.ledger.branches() if one.kind == "unlearned" and one.state == "done"]
    return [one for one in done if ids is None or one.request_id == "+".join(sorted(ids))]


def other_methods(session: Session, branch: BranchRow) -> list[str]:
    """Methods that unlearned the same requests as well, in their order."""
    own = str(branch.settings["method"])
    several = (str(one.settings["method"]) for one in unlearned_branches(session, str(branch.request_id).split("+")))
    return [name for name in dict.fromkeys(several) if name != own]


def mask_of(session: Session, branch: BranchRow) -> ChannelMask | None:
    """The channel mask that a branch worked with; None when everything moved."""
    last = session.ledger.last_round(branch.name)
    if last is None or last.extras is None:
        return None
    return mask_among(session.models.load(last.extras))


def run_branch(grid: Grid, session: Session, roster: Roster, job: Job, plan: BranchPlan) -> BranchRow:
    """Run a branch to its end, or return it when it has ended already; a killed one goes on where it was."""
    base = base_digest(session, job)
    start = plan.start or base
    method = methods.get(plan.settings.method)
    values: dict[str, Any] = {"base": base, "start": start, **plan.settings.model_dump(mode="json")}
    branch = session.ledger.create_branch(plan.name(job, base), plan.kind, start, "+".join(job.requests), values)
    if branch.state == "done":
        return branch
    model = session.models.load(start)
    state = wrapped_strategy(session).state_for(job, model, plan.settings, plan.kind)
    state = with_supplies(state, session, job)
    phases = method.phases(plan.settings, state.rounds)
    examiner = Examiner(session, grid, roster, model)

    def observe(phase: Phase, after: State) -> dict[str, Any]:
        return examiner.on_round(after.model, job, after.mask)

    serve(
        grid,
        roster,
        method,
        state,
        job,
        LedgerRecorder(session, branch.name, len(phases)),
        session.settings.timeout,
        session.settings.fraction,
        observe,
    )
    session.ledger.set_branch_state(branch.name, "done")
    return replace(branch, state="done", head=_head(session, branch.name))


def with_supplies(state: State, session: Session, job: Job) -> State:
    """The state with all that this run has beside the models: what was kept or prepared during training, and the rest.

    Its rounds are those behind the model that the job found, and gone are the classes of requests served before, too.
    """
    rounds = original_rounds(session, job)
    return replace(
        state,
        rounds=rounds,
        gone=tuple(sorted({*state.gone, *_gone(_served_before(session, job))})),
        history=history_of(session, job, rounds),
        server_data=session.server_data,
        task=session.task,
        prepared_for=session.settings.prepared_methods,
    )


def _served_before(session: Session, job: Job) -> list[RequestRow]:
    own = "+".join(job.requests)
    served = (str(event.detail["request"]) for event in session.ledger.events(SERVED))
    ids = {id for requests in takewhile(lambda requests: requests != own, served) for id in requests.split("+")}
    return [session.ledger.request(id) for id in sorted(ids)]


def supplies_of(session: Session, job: Job) -> Supplies:
    """What the run has of that which methods need to serve the job."""
    history = history_of(session, job, original_rounds(session, job))
    return Supplies(history, session.server_data is not None, session.settings.prepared_methods, session.task)


def settings_of(branch: BranchRow) -> UnlearnSettings:
    """How a branch was served, out of its row."""
    return UnlearnSettings(**{name: branch.settings[name] for name in UnlearnSettings.model_fields})


def _head(session: Session, name: str) -> str:
    row = session.ledger.branch(name)
    if row is None:
        raise RequestError(f"branch {name!r} is not in the ledger.")
    return row.head


def wrapped_strategy(session: Session, **options: Any) -> UnlearningStrategy:
    """The federation's own strategy, wrapped."""
    settings = session.settings
    return UnlearningStrategy(
        make_strategy(settings.strategy, settings.fraction),
        session.architecture,
        session.training,
        rounds=settings.rounds,
        seed=settings.seed,
        timeout=settings.timeout,
        **options,
    )
