from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords, aggregate_metricrecords

from fedunlearn.errors import ClientError
from fedunlearn.strategies.combined_reply import CombinedReply
from fedunlearn.strategies.content import ARRAYS, METRICS, numpy_arrays
from fedunlearn.strategies.reception import Answer

SENT = {"w": np.zeros(4, np.float32)}


def answer(client: int, value: float, **metrics: float) -> Answer:
    return Answer(client, dict(metrics), {}, {"w": np.full(4, value, np.float32)})  # type: ignore[arg-type]


def test_one_reply_stands_for_all_in_flowers_own_aggregation() -> None:
    answers = [
        answer(0, 1.0, loss=0.5, **{"num-examples": 3}),
        answer(1, 2.0, loss=1.5, **{"num-examples": 5}),
        answer(2, 4.0, loss=0.1, **{"num-examples": 8}),
    ]
    combined, each = CombinedReply(SENT), []
    for one in answers:
        combined.add(one)
        each.append(RecordDict({ARRAYS: ArrayRecord([one.arrays["w"]]), METRICS: MetricRecord(one.metrics)}))
    content = combined.content()
    assert content.metric_records[METRICS]["num-examples"] == 16
    flower = aggregate_arrayrecords(each, "num-examples")["0"].numpy()
    np.testing.assert_allclose(numpy_arrays(content.array_records[ARRAYS])["w"], flower, atol=1e-6)
    expected = aggregate_metricrecords(each, "num-examples")
    ours = aggregate_metricrecords([content], "num-examples")
    assert ours.keys() == expected.keys() and ours["loss"] == pytest.approx(expected["loss"])


def test_a_number_that_some_leave_out_has_no_mean() -> None:
    combined = CombinedReply(SENT)
    combined.add(answer(0, 1.0, loss=0.5, **{"num-examples": 3}))
    combined.add(answer(1, 1.0, **{"num-examples": 3}))
    assert set(combined.content().metric_records[METRICS]) == {"num-examples"}


def test_one_that_is_refused_counts_for_nothing() -> None:
    combined = CombinedReply(SENT)
    combined.add(answer(0, 1.0, loss=0.5, **{"num-examples": 3}))
    for wrong in (answer(1, float("nan"), **{"num-examples": 3}), answer(1, 1.0)):
        with pytest.raises(ClientError, match="client 1"):
            combined.add(wrong)
    metrics = combined.content().metric_records[METRICS]
    assert dict(metrics) == {"loss": 0.5, "num-examples": 3}
