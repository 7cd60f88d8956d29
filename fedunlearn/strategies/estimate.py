"""What serving a request by a method would cost, before anything is sent; and which method is the cheapest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.method import Method, Phase, checked_phases
from fedunlearn.tasks.training import TrainingSettings

COMPUTES_NOTHING = frozenset({"query.count"})
"""Messages that clients answer without a pass over their data."""
SENDS_THE_MODEL = frozenset({"query.importance"})
"""Queries whose answer is as large as the moving part of the model; any other is of a number a channel."""


@dataclass(frozen=True)
class Facts:
    """What is known of a federation before a request is served.

    Attributes:
        targets: clients that hold part of the forget set and are there.
        retaining: clients that hold retained data.
        everybody: clients that do either.
        fraction: share of the retaining clients that a training phase samples.
        rounds: of the training behind the model that the request found.
        training: the federation's own recipe.
        model_bytes: of the whole model.
        channel_bytes: of one number a channel.
        seconds_per_epoch: of one client's pass over its data, as the ordinary rounds took it.
    """

    targets: int
    retaining: int
    everybody: int
    fraction: float
    rounds: int
    training: TrainingSettings
    model_bytes: int
    channel_bytes: int
    seconds_per_epoch: float


@dataclass(frozen=True)
class Estimate:
    """What a method would cost: rounds, bytes both ways together (an upper bound), seconds of all clients together."""

    rounds: int
    bytes: int
    client_seconds: float


@dataclass(frozen=True)
class Candidate:
    """One method and what there is to say for it.

    Attributes:
        method: its name.
        serves: whether it can serve the request.
        why_not: why it cannot, or is not to be chosen: a sentence, or empty.
        estimate: None where it cannot.
        earnest: whether it is there to serve requests, and not to be compared with.
    """

    method: str
    serves: bool
    why_not: str = ""
    estimate: Estimate | None = None
    earnest: bool = True


def estimate(method: Method, settings: UnlearnSettings, facts: Facts) -> Estimate:
    """The cost, read off the method's phases; a method that knows better says so in an `estimate` of its own.

    A training phase costs its local epochs at each of its clients, and sends the moving part of the model both ways:
    all of it, unless the method's `share_of_model(settings)` says less. A query costs one pass. `local_epochs(settings,
    training)` of a method stands for the settings' local epochs.

    Raises:
        SettingsError: the method cannot work with these settings.
    """
    own = getattr(method, "estimate", None)
    if own is not None:
        found = own(settings, facts)
        if isinstance(found, Estimate):
            return found
    phases = checked_phases(method, settings, facts.rounds)
    share_of = getattr(method, "share_of_model", None)
    epochs_of = getattr(method, "local_epochs", None)
    share = float(share_of(settings)) if share_of else 1.0
    epochs = float(epochs_of(settings, facts.training)) if epochs_of else float(settings.local_epochs)
    bytes_, passes = 0.0, 0.0
    for phase in phases:
        clients = _clients(phase, facts)
        if phase.trains:
            bytes_ += clients * 2 * share * facts.model_bytes
            passes += clients * epochs
        elif phase.message in SENDS_THE_MODEL:
            bytes_ += clients * 2 * share * facts.model_bytes
            passes += clients
        elif phase.message not in COMPUTES_NOTHING:
            bytes_ += clients * facts.channel_bytes
            passes += clients
    rounds = sum(phase.is_round for phase in phases)
    return Estimate(rounds, round(bytes_), passes * facts.seconds_per_epoch)


def cheapest(candidates: Iterable[Candidate]) -> Candidate | None:
    """The one that takes clients the least time, of equals the one that sends least; None: nothing serves."""
    able: Sequence[tuple[float, int, str, Candidate]] = [
        (one.estimate.client_seconds, one.estimate.bytes, one.method, one)
        for one in candidates
        if one.serves and one.estimate is not None
    ]
    return min(able, key=lambda item: item[:3])[3] if able else None


def _clients(phase: Phase, facts: Facts) -> int:
    if phase.to == "target":
        return facts.targets
    if phase.to == "all":
        return facts.everybody
    if phase.trains and facts.fraction < 1:
        return max(1, round(facts.fraction * facts.retaining))
    return facts.retaining
