"""Choosing the method that serves a request: the cheapest of those that can, as an estimate has it beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from fedunlearn.channels.packing import Portion, nbytes
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import FedunlearnError, RequestError
from fedunlearn.server.branches import original_rounds, supplies_of
from fedunlearn.server.cost import VALUE_BYTES
from fedunlearn.server.ledger import MAIN
from fedunlearn.server.session import Session
from fedunlearn.strategies import methods
from fedunlearn.strategies.asked import trains_in_full, unlearn_settings
from fedunlearn.strategies.estimate import Candidate, Facts, cheapest, estimate
from fedunlearn.strategies.roster import Roster
from fedunlearn.strategies.serving import Job, check_needs, check_serves

CHOSEN = "method-chosen"
"""The event of a method being chosen: which, why, and what the others would have cost."""


@dataclass(frozen=True)
class Choice:
    """What was chosen for a job.

    Attributes:
        requests: their ids, joined by "+".
        settings: how they are served, the method named.
        why: a sentence.
        candidates: every registered method, the cheapest that can serve first.
    """

    requests: str
    settings: UnlearnSettings
    why: str
    candidates: tuple[Candidate, ...]

    def document(self) -> dict[str, Any]:
        """As the command line prints it and the ledger has it."""
        return {
            "requests": self.requests,
            "method": self.settings.method,
            "why": self.why,
            "candidates": [asdict(one) for one in self.candidates],
        }


OnChoice = Callable[[Choice], None]


def choose(session: Session, roster: Roster, job: Job, settings: UnlearnSettings) -> Choice:
    """The settings with the cheapest method in the place of "auto", written into the ledger once.

    Cheapest is what takes the clients' least time together, and of equals what sends least. A method that trains in
    full is estimated with the rounds and local epochs of the federation, any other with those of `settings`.

    Raises:
        RequestError: no method can serve the job; all reasons are named.
    """
    facts, supplies = facts_of(session, roster, job), supplies_of(session, job)

    def judged(name: str) -> Candidate:
        method = methods.get(name)
        if not getattr(method, "earnest", True):
            return Candidate(name, False, "it is there to be compared with, not to serve a request.", earnest=False)
        try:
            own = _settings_for(session, job, settings, name)
            check_serves(method, job, roster)
            check_needs(method, supplies, own)
            if "target" in method.needs and not facts.targets:
                raise RequestError("it needs the client that asked, which is away.")
            return Candidate(name, True, "", estimate(method, own, facts))
        except FedunlearnError as error:
            return Candidate(name, False, str(error))

    found = {name: judged(name) for name in methods.names()}
    best = cheapest(found.values())
    if best is None or best.estimate is None:
        reasons = "; ".join(one.why_not.rstrip(".") for one in found.values())
        raise RequestError(f"no method can serve {', '.join(job.requests)}: {reasons}.")
    able = sum(one.serves for one in found.values())
    why = (
        f"of the {able} methods that can serve it {best.method} takes the clients the least time: an estimated "
        f"{best.estimate.client_seconds:.3g} client-seconds and {best.estimate.bytes} bytes."
    )
    chosen = _settings_for(session, job, settings, best.method)
    choice = Choice("+".join(job.requests), chosen, why, tuple(sorted(found.values(), key=_order)))
    known = [event.detail for event in session.ledger.events(CHOSEN, choice.requests)]
    if not known or dict(known[-1]) != choice.document():
        session.ledger.append_event(CHOSEN, choice.document(), choice.requests)
    return choice


def facts_of(session: Session, roster: Roster, job: Job) -> Facts:
    """What is known of the federation before the job is served."""
    layout = session.architecture.layout
    targets = [client for client in job.targets if client in roster.members]
    retaining = roster.retaining()
    model = session.blank.state_dict()
    return Facts(
        targets=len(targets),
        retaining=len(retaining),
        everybody=len({*targets, *retaining}),
        fraction=session.settings.fraction,
        rounds=original_rounds(session, job),
        training=session.training,
        model_bytes=nbytes(Portion.everything(model), model),
        channel_bytes=VALUE_BYTES * sum(group.channels for group in layout.groups),
        seconds_per_epoch=seconds_per_epoch(session),
    )


def seconds_per_epoch(session: Session) -> float:
    """One client's pass over its data, in seconds: the median over ordinary rounds; 1 where none was measured."""
    measured = [
        row.seconds / sum(row.metrics["passes"].values())
        for row in session.ledger.rounds(MAIN)
        if sum(row.metrics.get("passes", {}).values())
    ]
    return median(measured) if measured else 1.0


def _settings_for(session: Session, job: Job, settings: UnlearnSettings, name: str) -> UnlearnSettings:
    """The settings with which a method would serve the job. Raises SettingsError where it cannot work with them."""
    full = trains_in_full(methods.get(name))
    own = (original_rounds(session, job), session.settings.local_epochs)
    rounds, epochs = own if full else (settings.rounds, settings.local_epochs)
    options = {} if settings.learning_rate is None or full else {"learning_rate": settings.learning_rate}
    return unlearn_settings(name, settings.ratio, rounds, epochs, options)


def _order(one: Candidate) -> tuple[bool, float, int, str]:
    if one.estimate is None:
        return True, 0.0, 0, one.method
    return False, one.estimate.client_seconds, one.estimate.bytes, one.method
