"""One reply that stands for all: what a Flower strategy is handed that needs nothing but the mean."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from flwr.app import MetricRecord, RecordDict

from fedunlearn.flower_arrays import live_record
from fedunlearn.strategies.aggregation import WEIGHT, weight_of
from fedunlearn.strategies.content import ARRAYS, METRICS
from fedunlearn.strategies.reception import Answer, Metrics
from fedunlearn.strategies.running_mean import RunningMean


class CombinedReply:
    """The weighted mean of arrays and numbers, and the sum of the samples, of answers that come one at a time."""

    def __init__(self, sent: Mapping[str, np.ndarray]) -> None:
        """`sent`: the model that the clients were sent."""
        self._arrays = RunningMean(sent)
        self._sums: dict[str, float] = {}
        self._answers = 0
        self._known: dict[str, int] = {}

    def add(self, answer: Answer) -> None:
        """Add one answer. Raises ClientError when it is unlike the model that was sent; then it counts for nothing."""
        sender = f"client {answer.client}"
        weight = weight_of(answer.metrics, sender)
        self._arrays.add(answer.arrays, weight, sender)
        self._answers += 1
        for name, value in answer.metrics.items():
            if not isinstance(value, list):
                self._sums[name] = self._sums.get(name, 0.0) + weight * value
                self._known[name] = self._known.get(name, 0) + 1

    def content(self) -> RecordDict:
        """The reply. Raises ClientError when the answers stand for no sample."""
        mean, total = self._arrays.result(), self._arrays.weight
        # A number that some clients do not send has no mean over all.
        metrics: Metrics = {n: s / total for n, s in self._sums.items() if self._known[n] == self._answers}
        metrics[WEIGHT] = int(total)
        return RecordDict({ARRAYS: live_record(mean), METRICS: MetricRecord(metrics)})
