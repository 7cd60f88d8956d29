"""Rounds with two roles: what the targets computed is kept apart, and joined with what the remaining clients send.

Replies are added as they come, in client order (`Average`), so that nothing here holds more than one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from fedunlearn.strategies.aggregation import Average, RunningAverage
from fedunlearn.strategies.method import ClientReply, State
from fedunlearn.strategies.serving import TargetGone

_WEIGHT = "weight"


def kept(state: State, name: str) -> dict[str, np.ndarray]:
    """What a phase left in `State.arrays` under `name`, by parameter; nothing where no phase did."""
    prefix = f"{name}:"
    return {key.removeprefix(prefix): array for key, array in state.arrays.items() if key.startswith(prefix)}


def kept_weight(state: State, name: str) -> float:
    """How many samples that stands for; 0 where no phase left anything."""
    return float(state.arrays.get(f"{name}/{_WEIGHT}", np.zeros(())))


def with_kept(state: State, name: str, arrays: Mapping[str, np.ndarray], weight: float = 0.0) -> State:
    """The state with `arrays` left for later phases under `name`."""
    left = {f"{name}:{key}": array for key, array in arrays.items()}
    return replace(state, arrays={**state.arrays, **left, f"{name}/{_WEIGHT}": np.array(weight)})


def without_kept(state: State, *names: str) -> State:
    """The state without what was left under `names`."""
    prefixes = tuple(f"{name}{mark}" for name in names for mark in ":/")
    return replace(state, arrays={key: array for key, array in state.arrays.items() if not key.startswith(prefixes)})


@dataclass(frozen=True)
class KeepMean(Average):
    """The replies' mean, weighted by samples, is left in `State.arrays`; the model stays as it was.

    Attributes:
        name: under which it is left.
        then: what the server computes once it is there; None: nothing.
    """

    name: str = "kept"
    then: Callable[[State], State] | None = None

    def begin(self, state: State) -> RunningAverage:
        """The mean before the first reply."""
        return _Keeping(state, self)


class _Keeping(RunningAverage):
    def __init__(self, state: State, how: KeepMean) -> None:
        super().__init__(state)
        self._how = how

    def result(self) -> State:
        """The state with the mean under its name."""
        after = with_kept(self._state, self._how.name, self._mean.result(), self._mean.weight)
        return self._how.then(after) if self._how.then else after


@dataclass(frozen=True)
class AverageWithKept(Average):
    """FedAvg of the replies and of the mean that was kept apart, each weighted by its samples.

    As if those who sent the one and those who sent the other had answered in one phase; what was kept is gone after.
    """

    name: str = "kept"

    def begin(self, state: State) -> RunningAverage:
        """The average, with what was kept already in it."""
        return _AveragingWithKept(state, self.name)


class _AveragingWithKept(RunningAverage):
    def __init__(self, state: State, name: str) -> None:
        super().__init__(without_kept(state, name))
        apart = kept(state, name)
        if apart:
            self._mean.add(apart, kept_weight(state, name), "the targets")


def add_kept(name: str) -> Average:
    """FedAvg of the replies, plus what the targets' own step had changed: the sum of the two roles' changes.

    Both start from the model that was sent. Integers are the replies' own; what was kept is gone after.
    """

    def finish(before: State, averaged: State) -> State:
        started, mean, apart = before.packed(), averaged.packed(), kept(before, name)
        added = {
            key: array + (apart[key] - started[key]) if key in apart and array.dtype.kind == "f" else array
            for key, array in mean.items()
        }
        return without_kept(averaged.with_packed(added), name)

    return Average(finish=finish)


@dataclass(frozen=True)
class AverageWithTarget(Average):
    """FedAvg of a joint phase that makes no sense without a target: then it raises TargetGone."""

    def begin(self, state: State) -> RunningAverage:
        """The average before the first reply."""
        return _InsistingOnTarget(state)


class _InsistingOnTarget(RunningAverage):
    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._target_answered = False

    def add(self, reply: ClientReply) -> None:
        """Add one reply."""
        super().add(reply)
        self._target_answered = self._target_answered or reply.role == "target"

    def result(self) -> State:
        """The state after the round. Raises TargetGone where no target answered."""
        insist_on_target(self._target_answered)
        return super().result()


def insist_on_target(answered: bool) -> None:
    """Raise TargetGone where no target `answered` a joint round."""
    if not answered:
        raise TargetGone(
            "no target answered, and without one this round forgets nothing; use a method that needs none, such "
            "as retrain."
        )
