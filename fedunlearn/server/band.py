"""A band: n models retrained without what was filed, from disjoint seeds; what every verdict compares with.

Its members are found again by the digest of all that they depend on, whatever method is judged. Each is a model in the
run's store and a small file `audit/band-<key>-<number>.json`; one that is missing or damaged is made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from fedunlearn.config import EXECUTION, UnlearnSettings
from fedunlearn.errors import ClientError, RunFolderError
from fedunlearn.files import atomic_write_json, make_folder, read_json
from fedunlearn.server.branches import wrapped_strategy
from fedunlearn.server.ledger_tables import RequestRow
from fedunlearn.server.session import Session
from fedunlearn.strategies import methods
from fedunlearn.strategies.method import State
from fedunlearn.strategies.roster import Roster
from fedunlearn.strategies.serving import Job, PhaseReport, serve

STANDARD, FULL = 8, 20
"""Models of a band, for the tiers of an audit."""
RECORDED = "band-member"
"""The event of a finished member."""
LEFT_OUT_OF_KEY = EXECUTION | {"rounds", "class_harm"}
"""Settings that change no model; rounds are given apart: those of the original."""
PACKAGES = ("fedunlearn", "torch", "torchvision", "numpy", "flwr-datasets", "mlxtend", "scikit-learn")
"""Whose versions decide what is trained."""


@dataclass(frozen=True)
class BandPlan:
    """All that a band depends on, and so what identifies it.

    Attributes:
        settings: of the federation, without those that change no model.
        rounds: of ordinary training that each member gets: as many as the original had.
        requests: what was filed, refused requests apart: scope, targets, classes, number of samples and commitments.
        retained: client -> number of samples that it trains on.
        packages: versions.
    """

    settings: Mapping[str, Any]
    rounds: int
    requests: Mapping[str, Mapping[str, Any]]
    retained: Mapping[str, int]
    packages: Mapping[str, str | None]

    @staticmethod
    def of(session: Session, roster: Roster, rounds: int) -> BandPlan:
        """The plan for a run as it stands: everything that was filed is left out."""
        settings = session.settings.model_dump(mode="json", exclude=set(LEFT_OUT_OF_KEY))
        if not settings["server_data"]:
            del settings["server_data"]  # bands that were made before there was such a setting stay what they are
        filed = [row for row in session.ledger.requests() if row.state != "refused"]
        return BandPlan(
            settings=settings,
            rounds=rounds,
            requests={row.id: _asked(row) for row in sorted(filed, key=lambda row: row.id)},
            retained={str(client): member.retained for client, member in sorted(roster.members.items())},
            packages={name: _version(name) for name in PACKAGES},
        )

    @property
    def key(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def job(self) -> Job:
        """All that was filed as one job: whose samples are left out, and what seeds are derived from."""
        targets = {client for row in self.requests.values() for client in row["targets"]}
        scopes = frozenset(row["scope"] for row in self.requests.values())
        return Job(tuple(sorted(self.requests)), tuple(sorted(targets)), scopes)


@dataclass(frozen=True)
class Member:
    """One retrained model of a band.

    Attributes:
        number: 1, 2, … within the band.
        seed: what initialisation, client sampling and shuffling were derived from.
        digest: of the model.
        seconds: it took.
        created: UTC in ISO 8601.
    """

    number: int
    seed: int
    digest: str
    seconds: float
    created: str


@dataclass(frozen=True)
class Band:
    """Members of a plan, by number."""

    plan: BandPlan
    members: tuple[Member, ...]

    def document(self) -> dict[str, Any]:
        """As an audit's document holds it."""
        return {
            "key": self.plan.key,
            "size": len(self.members),
            "seeds": [member.seed for member in self.members],
            "digests": [member.digest for member in self.members],
            "rounds": self.plan.rounds,
            "without": sorted(self.plan.requests),
        }

    def first(self, size: int) -> Band:
        """The band of its first `size` members."""
        return replace(self, members=self.members[:size])


def known_band(session: Session, plan: BandPlan) -> Band:
    """The members that are finished: recorded, and with a model that is still in the store."""
    found = []
    for path in session.folder.audit.glob(f"band-{plan.key[:16]}-*.json"):
        try:
            content = read_json(path)
            member = Member(**content["member"])
            if content["key"] == plan.key and path == _path(session, plan, member.number):
                found.append(member)
        except (RunFolderError, KeyError, TypeError):
            continue  # damaged: this member is made again, and the file replaced
    there = [member for member in found if session.models.has(member.digest)]
    return Band(plan, tuple(sorted(there, key=lambda member: member.number)))


def best_band(session: Session, plan: BandPlan, forgotten: Collection[str], size: int) -> Band:
    """The band to go by: one that is finished and left out the fewest requests, or else the plan's own so far.

    Requests that were filed after the judged one was served need not be missing from its band; a band that was made
    before they were is the better reference, and is there already.

    Args:
        plan: for the run as it stands.
        forgotten: ids of the requests that the judged model has forgotten: every band must leave them out.
        size: members that it needs; 0: whatever there is.
    """
    current = known_band(session, plan)
    enough = [current] if len(current.members) >= max(size, 1) else []
    for older in _older_plans(session, plan, forgotten):
        band = known_band(session, older)
        if len(band.members) >= max(size, 1):
            enough.append(band)
    if not enough:
        return current
    return min(enough, key=lambda band: (len(band.members) < STANDARD, len(band.plan.requests), -len(band.members)))


def _older_plans(session: Session, plan: BandPlan, forgotten: Collection[str]) -> list[BandPlan]:
    """Plans of bands that were begun when fewer requests had been filed, all else being equal."""
    found: dict[str, BandPlan] = {}
    for path in session.folder.audit.glob("band-*-[0-9]*.json"):
        try:
            content = read_json(path)
            older = BandPlan(**content["plan"])
        except (RunFolderError, KeyError, TypeError):
            continue
        alike = (older.settings, older.rounds, older.packages) == (plan.settings, plan.rounds, plan.packages)
        part = alike and all(plan.requests.get(id) == asked for id, asked in older.requests.items())
        if part and older.key == content["key"] != plan.key and set(forgotten) <= set(older.requests):
            found[older.key] = older
    return list(found.values())


def lacking(band: Band, size: int) -> list[int]:
    """Numbers of the members that a band of `size` still needs."""
    there = {member.number for member in band.members}
    return [number for number in range(1, size + 1) if number not in there]


def retrain_member(
    grid: Grid,
    session: Session,
    roster: Roster,
    plan: BandPlan,
    base: str,
    number: int,
    on_round: Callable[[int, int], None] | None = None,
) -> Member:
    """Train one member from scratch and put it where `known_band` finds it; nothing is written to the ledger.

    Args:
        base: digest of a model that the clients hold; the member does not depend on it.
        on_round: told the finished rounds, and how many there will be.

    Raises:
        ClientError: a client failed, so that the member would lack its data; or one has filed a request since the
            plan was made.
    """
    there = {str(client): member.retained for client, member in sorted(roster.members.items())}
    if there != dict(plan.retained):
        raise ClientError("clients hold other data than when the band was begun; run the same command again.")
    settings = UnlearnSettings(method="retrain", rounds=plan.rounds, local_epochs=session.settings.local_epochs)
    state = wrapped_strategy(session).state_for(plan.job, session.models.load(base), settings, f"band-{number}")
    recorder = _Complete(on_round, plan.rounds)
    after = serve(
        grid,
        roster,
        methods.get("retrain"),
        state,
        plan.job,
        recorder,
        session.settings.timeout,
        session.settings.fraction,
    )
    member = Member(
        number=number,
        seed=state.seed,
        digest=session.models.save(after.model),
        seconds=recorder.seconds,
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
    make_folder(session.folder.audit)
    atomic_write_json(_path(session, plan, number), {"key": plan.key, "member": asdict(member), "plan": asdict(plan)})
    return member


def record_members(session: Session, band: Band) -> None:
    """Write the members into the ledger, each once."""
    known = {(event.detail["key"], event.detail["number"], event.detail["digest"]) for event in _recorded(session)}
    for member in band.members:
        if (band.plan.key, member.number, member.digest) not in known:
            detail = {"key": band.plan.key, "without": sorted(band.plan.requests), **asdict(member)}
            session.ledger.append_event(RECORDED, detail)


class _Complete:
    """Keeps nothing but the time, and insists that every client that was asked answered."""

    def __init__(self, on_round: Callable[[int, int], None] | None, total: int) -> None:
        self.seconds = 0.0
        self._done, self._total, self._on_round = 0, total, on_round

    def resume(self, state: State) -> tuple[int, State]:
        """A member that is killed starts again: no half of it is kept."""
        return 0, state

    def record(self, before: State, after: State, report: PhaseReport) -> None:
        """Raise ClientError when somebody dropped out."""
        if report.outcome.dropped:
            client, why = report.outcome.dropped[0]
            raise ClientError(f"a retrained model would lack the data of client {client}: {why}")
        self.seconds += report.outcome.seconds
        self._done += 1
        if self._on_round is not None:
            self._on_round(self._done, self._total)


def _recorded(session: Session) -> Sequence[Any]:
    return session.ledger.events(RECORDED)


def _path(session: Session, plan: BandPlan, number: int) -> Path:
    return session.folder.audit / f"band-{plan.key[:16]}-{number:03d}.json"


def _asked(row: RequestRow) -> dict[str, Any]:
    return {
        "scope": row.scope,
        "targets": list(row.targets),
        "classes": None if row.classes is None else list(row.classes),
        "count": row.count,
        "commitment": row.commitment,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
