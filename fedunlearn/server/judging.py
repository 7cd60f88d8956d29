"""Judging a finished unlearning: its primary metrics on original, unlearned and retrained models, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flwr.serverapp import Grid

from fedunlearn.audit.canary_verdict import CanaryVerdict, judge_canaries
from fedunlearn.audit.measured import Measured
from fedunlearn.audit.primary import (
    CANARIES,
    CANARY_EXPOSURE,
    TEST_ACCURACY,
    TRIGGERED,
    UNTRIGGERED,
    PrimaryMetric,
    primary_metrics,
)
from fedunlearn.audit.verdict_document import find
from fedunlearn.errors import DataError
from fedunlearn.server.branches import MAIN, SERVED, classes_of, job_for, rounds_behind, unlearned_branch
from fedunlearn.server.examiner import Examiner
from fedunlearn.server.figure_store import FigureStore
from fedunlearn.server.ledger_tables import BranchRow, RequestRow
from fedunlearn.server.primary_figures import PART_NAMES, Figure, figures_of
from fedunlearn.server.session import Session
from fedunlearn.strategies.roster import Roster
from fedunlearn.strategies.serving import Job

Figures = Mapping[str, Figure]
PARTS = {"triggered": TRIGGERED, "untriggered": UNTRIGGERED, "canaries": CANARIES}


@dataclass(frozen=True)
class Case:
    """One unlearning that is judged.

    Attributes:
        rows: its requests.
        branch: what unlearned them.
        original: digest of the model that they found.
        rounds: of ordinary training behind that one.
    """

    job: Job
    rows: tuple[RequestRow, ...]
    branch: BranchRow
    original: str
    rounds: int

    @property
    def requests(self) -> str:
        """The ids of its requests, joined by "+"."""
        return "+".join(self.job.requests)

    @property
    def scope(self) -> str:
        """What was asked for, or "several"."""
        return next(iter(self.job.scopes)) if len(self.job.scopes) == 1 else "several"

    @property
    def classes(self) -> tuple[int, ...] | None:
        """The classes that the requests name."""
        return classes_of(self.rows)


def case_of(session: Session, ids: Sequence[str], method: str | None = None) -> Case:
    """The last unlearning of these requests, by `method` if it is named. Raises RequestError when there is none."""
    rows = [session.ledger.request(id) for id in ids]
    job = job_for(rows)
    branch = unlearned_branch(session, ids, method)
    original = str(branch.settings["base"])
    return Case(job, tuple(rows), branch, original, rounds_behind(session, original))


def served_before(session: Session, case: Case) -> list[Case]:
    """Earlier unlearnings that the case's model descends from, oldest first; none of them was taken back."""
    came_from: dict[str, tuple[str, str | None]] = {}
    for row in session.ledger.rounds(MAIN):
        came_from[row.digest_after] = (row.digest_before, None)
    for event in session.ledger.events(SERVED):
        came_from.setdefault(str(event.detail["to"]), (str(event.detail["from"]), str(event.detail["request"])))
    found: list[str] = []
    digest = case.original
    # Taken out as it is walked, so that the walk ends whatever the ledger says.
    while digest in came_from:
        digest, requests = came_from.pop(digest)
        if requests is not None:
            found.insert(0, requests)
    return [case_of(session, requests.split("+")) for requests in found]


def measured_figures(grid: Grid, session: Session, roster: Roster, case: Case) -> Callable[[str], Figures]:
    """Digest -> figures of that model on the case's forget set; what was measured once is not measured again."""
    there = [client for client in case.job.targets if client in roster.members]
    store = FigureStore(session.folder.audit, case.job.requests, there)
    examiner = Examiner(session, grid, roster, session.models.load(case.original))

    def measure(digest: str) -> dict[str, Figure]:
        return figures_of(examiner, session.models.load(digest), case.job, case.classes)

    return lambda digest: store.get_or_measure(digest, lambda: measure(digest))


def judge_case(
    case: Case, of: Callable[[str], Figures], unlearned: str, band: Sequence[str], classes: int
) -> dict[str, Any]:
    """The finding on one model, with what it rests on, as a part of an audit's document.

    Args:
        of: the figures of a model on this case's forget set, by digest.
        unlearned: digest of the model that is judged.
        band: digests of the retrained models.
        classes: of the task.

    Raises:
        DataError: nothing could be measured, or models were measured on different samples.
    """
    original, judged = of(case.original), of(unlearned)
    retrained = [of(digest) for digest in band]
    measured, left_out = [], {}
    # A model that answers with classes has an accuracy on the test set, whatever else was withheld.
    for metric in primary_metrics(case.job.scopes, planted_parts(original), TEST_ACCURACY.name in original):
        found = measured_of(metric, original, judged, retrained)
        if found is None:
            left_out[metric.name] = "withheld or not measured: too few samples, or no target client was there."
        else:
            measured.append(found)
    finding = find(measured, _canaries(original, judged, classes))
    return {
        "request": case.requests,
        "scope": case.scope,
        "original": case.original,
        "unlearned": unlearned,
        **finding.document(),
        "left_out": left_out,
    }


def planted_parts(original: Figures) -> set[str]:
    """Which parts of a planted forget set the targets report."""
    return {
        PARTS[part]
        for part, name in PART_NAMES.items()
        if part in PARTS and {f"{name}_accuracy", f"{name}_loss"} & original.keys()
    }


def measured_of(
    metric: PrimaryMetric, original: Figures, judged: Figures, retrained: Sequence[Figures]
) -> Measured | None:
    """A primary metric out of all models' figures; None where one model's were withheld.

    Raises:
        DataError: the models were measured on different samples.
    """
    everywhere = [figures.get(metric.name) for figures in (original, judged, *retrained)]
    known = [figure for figure in everywhere if figure is not None]
    if len(known) < len(everywhere):
        return None
    samples = {figure.samples for figure in known}
    if len(samples) > 1:
        raise DataError(
            f"{metric.name} was measured on {' and '.join(map(str, sorted(samples, key=str)))} samples: a client was "
            "away for some of the models; run the same command again."
        )
    first, second, *rest = (figure.value for figure in known)
    return Measured(metric.name, metric.kind, metric.transform, first, second, tuple(rest), samples.pop())


def _canaries(original: Figures, judged: Figures, classes: int) -> CanaryVerdict | None:
    before, after = original.get(CANARY_EXPOSURE.name), judged.get(CANARY_EXPOSURE.name)
    if before is None or after is None or after.samples is None:
        return None
    return judge_canaries(before.value, after.value, after.samples, classes)
