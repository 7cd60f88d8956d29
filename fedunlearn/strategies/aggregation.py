"""The weighted mean of the clients' replies, the same on every engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedunlearn.errors import ClientError
from fedunlearn.strategies.method import ClientReply, State
from fedunlearn.strategies.running_mean import RunningMean

WEIGHT = "num-examples"
"""The metric that says how many samples a reply stands for."""


def weighted_mean(arrays: Sequence[Mapping[str, np.ndarray]], weights: Sequence[float]) -> dict[str, np.ndarray]:
    """Mean of equally named arrays, accumulated in the given order, so that it is reproducible.

    Integer arrays (counters of normalisation layers) are copied from the first entry, never averaged.
    Raises ClientError when the weights do not sum to a positive number, or an entry is unlike the first.
    """
    mean = RunningMean(arrays[0])
    for entry, weight in zip(arrays, weights, strict=True):
        mean.add(entry, float(weight))
    return mean.result()


def mean_number(values: Sequence[float], weights: Sequence[float]) -> float:
    """Weighted mean of one number each. Raises ClientError when the weights do not sum to a positive number."""
    if not sum(weights) > 0:
        raise ClientError("the replies stand for no sample; expected at least one sample.")
    return float(np.average(values, weights=weights))


def weight_of(metrics: Mapping[str, object], sender: str) -> float:
    """How many samples a reply stands for, 0 or more. Raises ClientError when it does not say."""
    weight = metrics.get(WEIGHT)
    if not isinstance(weight, (int, float)) or not weight >= 0:
        raise ClientError(
            f"{sender} does not say how many samples it answers for; expected the metric {WEIGHT!r}, 0 or more."
        )
    return float(weight)


class RunningAverage:
    """FedAvg under way: replies are added one at a time, in client order, and need not be kept."""

    def __init__(self, state: State, finish: Callable[[State, State], State] | None = None) -> None:
        """`state`: its moving part is what the mean will replace. `finish`: as for `Average`."""
        self._state = state
        self._finish = finish
        self._mean = RunningMean(state.packed())

    def add(self, reply: ClientReply) -> None:
        """Add one reply. Raises ClientError when it is unlike the moving part; then it counts for nothing."""
        sender = f"client {reply.client}"
        self._mean.add(reply.arrays, weight_of(reply.metrics, sender), sender)

    def result(self) -> State:
        """The state with the mean as its moving part."""
        averaged = self._state.with_packed(self._mean.result())
        return self._finish(self._state, averaged) if self._finish else averaged


@dataclass(frozen=True)
class Average:
    """FedAvg of the moving part of the model, weighted by each client's number of samples, as a phase's `combine`.

    A phase that combines with it is never given all replies at once: they are added as they come (`begin`).

    Attributes:
        start: the state whose moving part was sent, out of the phase's; None: that state itself.
        finish: what becomes of the state that was sent and the averaged one; None: the averaged one.
    """

    start: Callable[[State], State] | None = None
    finish: Callable[[State, State], State] | None = None

    def begin(self, state: State) -> RunningAverage:
        """The average before the first reply."""
        return RunningAverage(self.start(state) if self.start else state, self.finish)

    def __call__(self, state: State, replies: Iterable[ClientReply]) -> State:
        """The average of replies that are all there."""
        running = self.begin(state)
        for reply in replies:
            running.add(reply)
        return running.result()


average = Average()
