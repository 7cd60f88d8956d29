from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from hypothesis import given, settings
from hypothesis import strategies as st

from fedunlearn.errors import ClientError
from fedunlearn.strategies.aggregation import weighted_mean

ENTRIES = st.lists(
    st.tuples(st.integers(1, 500), st.lists(st.floats(-100, 100, width=32), min_size=4, max_size=4)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=50, deadline=None)
@given(ENTRIES)
def test_the_mean_is_numpy_s_and_flower_s(entries: list[tuple[int, list[float]]]) -> None:
    weights = [weight for weight, _ in entries]
    arrays = [{"w": np.array(values, np.float32).reshape(2, 2)} for _, values in entries]
    mean = weighted_mean(arrays, weights)["w"]
    stacked = np.stack([one["w"] for one in arrays])
    assert mean.dtype == np.float32 and mean.shape == (2, 2)
    np.testing.assert_allclose(mean, np.average(stacked, axis=0, weights=weights), rtol=1e-6, atol=1e-5)
    replies = [
        RecordDict(
            {
                "arrays": ArrayRecord(list(one.values()), keep_input=True),
                "metrics": MetricRecord({"num-examples": weight}),
            }
        )
        for weight, one in zip(weights, arrays, strict=True)
    ]
    flower = aggregate_arrayrecords(replies, "num-examples").to_numpy_ndarrays()[0]
    np.testing.assert_allclose(mean, flower, rtol=1e-6, atol=1e-4)


def test_counters_are_copied_and_never_averaged() -> None:
    arrays = [{"n": np.array(3), "w": np.ones(2, np.float16)}, {"n": np.array(8), "w": np.zeros(2, np.float16)}]
    mean = weighted_mean(arrays, [1, 3])
    assert mean["n"] == 3 and mean["n"].shape == ()
    assert mean["w"].dtype == np.float16 and mean["w"].tolist() == [0.25, 0.25]
    mean["n"][...] = 5
    assert arrays[0]["n"] == 3


@pytest.mark.parametrize("weights", [[0, 0], [0, -1], [float("nan"), 1]])
def test_replies_that_stand_for_no_sample_are_refused(weights: list[float]) -> None:
    with pytest.raises(ClientError, match="no sample"):
        weighted_mean([{"w": np.ones(2)}] * 2, weights)
