"""FedEraser: the kept rounds are replayed without the target, each step calibrated by a short training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import RequestError
from fedunlearn.strategies.aggregation import Average
from fedunlearn.strategies.federated.stored_rounds import at_the_server, floating, one_thread, retained_mean
from fedunlearn.strategies.method import Down, ModelState, Need, Phase, Scope, State, TrainingHook, Work, methods
from fedunlearn.strategies.option import positive, whole
from fedunlearn.strategies.recovery import Recovery, local_recipe
from fedunlearn.tasks.training import TrainingSettings

INTERVAL = 2
"""Rounds between two that are kept, by default."""
CALIBRATION = 0.5
"""Share of the federation's local epochs that a calibrating training takes, by default."""

KEEP = TrainingHook(keep_updates_every=INTERVAL)


@dataclass(frozen=True)
class FedEraser:
    """Steps of the length that the kept rounds had without the target, in the direction of a short training now.

    Options: `interval` (every so many rounds are replayed: 2), `calibration` (share of the federation's local epochs
    that a client trains for each: 0.5, rounded up). As many rounds as are replayed, less one.
    """

    name: str = "federaser"
    source: str = (
        "Liu et al. 2021 (IWQoS); reconstruction: statistics of normalisation layers are taken from the calibrating "
        "training, weights of clients are their numbers of samples"
    )
    scopes: frozenset[Scope] = frozenset({"client"})
    needs: frozenset[Need] = frozenset({"stored-updates"})
    options: frozenset[str] = frozenset({"interval", "calibration"})
    training_hook: TrainingHook = KEEP
    own_rounds: bool = True
    messages: frozenset[str] = frozenset({"train.calibrate"})
    """Of one kept round nothing is replayed, so that phases alone do not name it."""

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """The mean of the first kept models, then one calibrated step for each further kept round."""
        interval = _interval(settings)
        positive(settings, "calibration", CALIBRATION, 1.0)
        replayed = len(range(1, rounds + 1, interval))
        return [at_the_server(_first), *(_calibrate(position) for position in range(1, replayed))]

    def local_epochs(self, settings: UnlearnSettings, training: TrainingSettings) -> float:
        """Passes of a client in a round."""
        return _epochs(settings, training)


def calibrated(model: ModelState, trained: ModelState, kept: ModelState, kept_after: ModelState) -> ModelState:
    """One step: layer by layer the kept one's length in the trained one's direction.

    Args:
        model: so far. trained: the mean of the clients' models after a short training of it.
        kept: the model that was sent in the kept round. kept_after: the mean of what those who stay made of it.
    """
    found = dict(trained)
    for name in floating(model):
        old, new = (kept_after[name] - kept[name]).double(), (trained[name] - model[name]).double()
        length = float(new.norm())
        step = new * (float(old.norm()) / length) if length else new
        found[name] = (model[name].double() + step).to(model[name].dtype)
    return found


def _interval(settings: UnlearnSettings) -> int:
    return whole(settings, "interval", INTERVAL, 1)


def _epochs(settings: UnlearnSettings, training: TrainingSettings) -> int:
    return math.ceil(positive(settings, "calibration", CALIBRATION, 1.0) * training.local_epochs)


def _replayed(state: State) -> list[int]:
    interval = _interval(state.settings)
    return [number for number in state.history.rounds() if (number - 1) % interval == 0]


def _first(state: State) -> State:
    interval, replayed = _interval(state.settings), _replayed(state)
    if len(replayed) < len(range(1, state.rounds + 1, interval)):
        kept = ", ".join(map(str, state.history.rounds()))
        raise RequestError(
            f"interval = {interval}: it asks for rounds between those that this run kept ({kept}); choose a multiple "
            "of the interval at which they were kept."
        )
    return replace(state, model=retained_mean(state, replayed[0]))


def _recipe(work: Work) -> TrainingSettings:
    return replace(local_recipe(work.training, work.settings), local_epochs=_epochs(work.settings, work.training))


def _calibrate(position: int) -> Phase:
    """The step that replays the kept round at `position`, the first being 0."""

    def down(state: State) -> Down | None:
        return Down(packed=state.packed()) if position < len(_replayed(state)) else None

    def step(before: State, averaged: State) -> State:
        number = _replayed(before)[position]
        with one_thread():
            kept, kept_after = before.history.model(number), retained_mean(before, number)
            return replace(averaged, model=calibrated(before.model, averaged.model, kept, kept_after))

    return Phase("train.calibrate", "remaining", down, Recovery(_recipe), Average(finish=step))


methods.register("federaser", FedEraser())
