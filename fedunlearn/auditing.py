"""Auditing a served request: a band of retrained models, the verdict against it, and what is described beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from flwr.serverapp import Grid

from fedunlearn.audit.metric import Tier
from fedunlearn.engines.mapping import map_jobs
from fedunlearn.errors import RequestError, SettingsError
from fedunlearn.local_clients import with_clients
from fedunlearn.plugins import plugged_in
from fedunlearn.reports.document import clean
from fedunlearn.server import audit_record
from fedunlearn.server.band import (
    FULL,
    STANDARD,
    Band,
    BandPlan,
    best_band,
    known_band,
    lacking,
    record_members,
    retrain_member,
)
from fedunlearn.server.branches import served_digest
from fedunlearn.server.describing import describe
from fedunlearn.server.heads import share_head
from fedunlearn.server.judging import Case, case_of, judge_case, measured_figures, served_before
from fedunlearn.server.life_cycle import gather
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.session import Session
from fedunlearn.shadows import Shadows, shadows_of
from fedunlearn.strategies.roster import Roster, call_roll

if TYPE_CHECKING:
    from rich.console import Group

TIERS: Mapping[Tier, int] = {"quick": 0, "standard": STANDARD, "full": FULL}
"""Tier -> models of the band that it makes."""

T = TypeVar("T")
Run = Callable[[Callable[[Grid, Session], Any]], Any]
"""Runs a job of the server on the run's engine."""


@dataclass(frozen=True)
class Audit:
    """An audit's document, as `audit --json` prints it."""

    document: Mapping[str, Any]

    @property
    def verdict(self) -> str:
        """ "pass", "fail" or "inconclusive"."""
        return str(self.document["verdict"])

    def table(self) -> Group:
        """Metric by metric, and the verdict, for the terminal."""
        from fedunlearn.reports.verdict_table import verdict_table

        return verdict_table(self.document)


def settled(tier: str | None, band: int | None) -> tuple[Tier, int]:
    """The audit that is meant, and how many retrained models it makes.

    Args:
        tier: None: standard, or full for a band of that size.
        band: None: as many as the tier makes.

    Raises:
        SettingsError: no such tier, or a band that it does not make.
    """
    if tier is None:
        tier = "full" if band is not None and band >= FULL else "standard"
    for known, size in TIERS.items():
        if tier != known:
            continue
        if band is not None and band < 1:
            raise SettingsError(f"band = {band}: expected 1 or more.")
        if band is not None and known == "quick":
            raise SettingsError("a quick audit makes no band; leave its size out, or give standard or full.")
        return known, size if band is None else band
    raise SettingsError(f"there is no audit {tier!r}; expected one of {', '.join(TIERS)}.")


def audit(
    run: Run,
    session: Session,
    ids: Sequence[str],
    tier: Tier,
    size: int,
    restore: bool,
    processes: int | None,
    method: str | None = None,
) -> Audit:
    """Make what is lacking of the band, measure, judge, write the document and the ledger's entry.

    Args:
        run: of the federation; its folder is held by the caller.
        ids: requests that were served together.
        size: of the band; 0: only what is there already.
        restore: whether a model that fails is no longer served.
        processes: for the band; None: one a core.
        method: whose unlearned model is judged; None: the last one's.

    Raises:
        RequestError: the requests have not been served, or not by this method.
    """
    audit_record.finish_interrupted(session)
    case, band = run(lambda grid, session: _find_band(grid, session, ids, size, method))
    if size:
        band = _fill(session, case, band, size, processes)
    shadows = None
    if tier == "full":
        # As many as there are references: a retrained model that is judged is none of its own.
        shadows = shadows_of(session, case, band.plan, max(0, len(band.members) - 2), processes)
    return run(lambda grid, session: _conclude(grid, session, case, band, tier, restore, shadows))


def make_band(session: Session, ids: Sequence[str], size: int, processes: int | None = None) -> tuple[str, ...]:
    """Digests of a band of `size` models for served requests, retraining what is lacking. The folder is held.

    Raises:
        RequestError: the requests have not been served.
    """
    case, band = with_clients(session, lambda grid: _find_band(grid, session, ids, size))
    return tuple(member.digest for member in _fill(session, case, band, size, processes).members)


def _find_band(
    grid: Grid, session: Session, ids: Sequence[str], size: int, method: str | None = None
) -> tuple[Case, Band]:
    roster, _ = gather(grid, session.ledger, session.settings.timeout)
    case = case_of(session, ids, method)
    if size and not case.rounds:
        raise RequestError(
            "the original model was not trained here, so that there is no training to repeat for a band; audit in tier "
            "quick, which retrains nothing."
        )
    forgotten = {id for one in (*served_before(session, case), case) for id in one.job.requests}
    return case, best_band(session, BandPlan.of(session, roster, case.rounds), forgotten, size)


def _fill(session: Session, case: Case, band: Band, size: int, processes: int | None) -> Band:
    """Retrain what is lacking, in parallel; a member that is finished is never lost, whatever happens to the others."""
    numbers = lacking(band, size)
    done = size - len(numbers)
    jobs = [
        {"run": str(session.folder.path), "base": case.original, "number": n, "rounds": case.rounds} for n in numbers
    ]

    def tell(index: int, member: Mapping[str, Any]) -> None:
        nonlocal done
        done += 1
        session.tell("retraining the band", done, size, f"model {member['number']}")
        record_members(session, known_band(session, band.plan))

    if jobs:
        session.tell("retraining the band", done, size)
        map_jobs("fedunlearn.auditing:retrain_one", jobs, processes, tell, plugged_in())
    found = known_band(session, band.plan).first(size)
    record_members(session, found)
    return found


def retrain_one(job: Mapping[str, Any]) -> dict[str, Any]:
    """One member of a band, in a process of its own (see `map_jobs`); returns its number and digest."""
    session = Session(RunFolder.open(job["run"]))

    def work(grid: Grid) -> dict[str, Any]:
        roster = call_roll(grid, session.settings.timeout)
        plan = BandPlan.of(session, roster, int(job["rounds"]))
        member = retrain_member(grid, session, roster, plan, str(job["base"]), int(job["number"]))
        return {"number": member.number, "digest": member.digest}

    return with_clients(session, work)


def _conclude(
    grid: Grid, session: Session, case: Case, band: Band, tier: Tier, restore: bool, shadows: Shadows | None
) -> Audit:
    roster = call_roll(grid, session.settings.timeout)
    document = _judge(grid, session, roster, case, band, tier, shadows)
    failed = document["verdict"] == "fail"
    document["restored"] = audit_record.restoration(session, case) if failed and restore else None
    document["in_use"] = served_digest(session) == case.branch.head
    document = clean(document)
    audit_record.publish(session, case, document)
    share_head(grid, session, roster)
    return Audit(document)


def _judge(
    grid: Grid, session: Session, roster: Roster, case: Case, band: Band, tier: Tier, shadows: Shadows | None
) -> dict[str, Any]:
    """The document, but for what becomes of the served model."""
    digests = [member.digest for member in band.members]
    unlearned, names = case.branch.head, session.dataset.classes
    started = time.monotonic()
    of = measured_figures(grid, session, roster, case)
    judged = judge_case(case, of, unlearned, digests, len(names))
    session.tell("judging", 1, 2, judged["verdict"])
    earlier = []
    for one in served_before(session, case):
        if not session.models.has(one.original):
            continue  # erased: nothing is left that it could be compared with
        again = measured_figures(grid, session, roster, one)
        entry = judge_case(one, again, unlearned, digests, len(names))
        earlier.append({**entry, "band": {"key": band.plan.key, "size": len(digests)}})
    beside = [one.digest for one in shadows.members] if shadows else []
    described = describe(grid, session, roster, case, unlearned, digests, tier, beside)
    session.tell("judging", 2, 2)
    return {
        **judged,
        "clients": list(case.job.targets),
        "classes": None if case.classes is None else [names[index] for index in case.classes],
        "tier": tier,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "method": dict(case.branch.settings),
        "band": band.document(),
        "earlier": earlier,
        "accuracy": audit_record.accumulated(session, case, of, digests),
        "described": described,
        "shadows": None if shadows is None else shadows.document(),
        "seconds": {
            "band": sum(member.seconds for member in band.members),
            "measuring": time.monotonic() - started,
        },
    }
