from __future__ import annotations

import tracemalloc
from typing import Literal

import numpy as np
import pytest
from flwr.app import ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from hypothesis import given, settings
from hypothesis import strategies as st

from fedunlearn.errors import ClientError
from fedunlearn.strategies import running_mean
from fedunlearn.strategies.running_mean import BLOCK, GROUP, RunningMean, check_finite

SHAPES = st.lists(st.sampled_from([(), (1,), (3,), (2, 2), (5, 1, 2), (0,), (7,)]), min_size=1, max_size=5)
TYPES = st.sampled_from([np.float16, np.float32, np.float64])


def mean_of(like: dict, sets: list[dict], weights: list[float]) -> dict[str, np.ndarray]:
    mean = RunningMean(like)
    for arrays, weight in zip(sets, weights, strict=True):
        mean.add(arrays, weight)
    return mean.result()


@settings(max_examples=60, deadline=None)
@given(st.data(), SHAPES, st.integers(1, 6), st.sampled_from([1, 3, 8, BLOCK]))
def test_the_mean_is_the_stacked_one_wherever_blocks_end(
    data: st.DataObject, shapes: list[tuple[int, ...]], count: int, block: int
) -> None:
    generator = np.random.default_rng(data.draw(st.integers(0, 99)))
    types = [data.draw(TYPES) for _ in shapes]
    weights = data.draw(st.lists(st.integers(1, 1000), min_size=count, max_size=count))

    def draw() -> dict[str, np.ndarray]:
        return {str(i): generator.normal(size=s).astype(t) for i, (s, t) in enumerate(zip(shapes, types, strict=True))}

    like, sets = draw(), [draw() for _ in range(count)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running_mean, "BLOCK", block)
        mean = mean_of(like, sets, weights)
    assert list(mean) == list(like)
    for name, array in mean.items():
        assert (array.dtype, array.shape) == (like[name].dtype, like[name].shape)
        stacked = np.stack([one[name].astype(np.float64) for one in sets])
        exact = np.average(stacked, axis=0, weights=weights)
        np.testing.assert_allclose(array, exact, rtol=0, atol=1e-3 if array.dtype == np.float16 else 1e-6)


def test_it_is_flowers_own_average_to_a_millionth() -> None:
    generator = np.random.default_rng(3)
    like = {"w": generator.normal(size=(40, 50)).astype(np.float32)}
    sets = [{"w": like["w"] + generator.normal(scale=0.1, size=(40, 50)).astype(np.float32)} for _ in range(100)]
    weights = generator.integers(1, 600, size=100).tolist()
    records = []
    for arrays, weight in zip(sets, weights, strict=True):
        metrics = MetricRecord({"num-examples": weight})
        records.append(RecordDict({"arrays": ArrayRecord(list(arrays.values())), "metrics": metrics}))
    flower = aggregate_arrayrecords(records, "num-examples").to_numpy_ndarrays()[0]
    ours = mean_of(like, sets, weights)["w"]
    np.testing.assert_allclose(ours, flower, rtol=0, atol=1e-6)


@pytest.mark.parametrize("clients", [1, GROUP, GROUP + 1, 1000])
def test_not_more_than_a_millionth_is_lost_with_any_number_of_clients(clients: int) -> None:
    generator = np.random.default_rng(clients)
    sets = [{"w": generator.uniform(0.5, 1.0, size=64).astype(np.float32)} for _ in range(clients)]
    weights = generator.integers(1, 600, size=clients).tolist()
    exact = np.average([one["w"].astype(np.float64) for one in sets], axis=0, weights=weights)
    assert np.abs(mean_of(sets[0], sets, weights)["w"] - exact).max() < 5e-7


def test_counters_are_copied_from_the_first_and_never_averaged() -> None:
    like = {"n": np.array(0), "w": np.zeros(2, np.float32)}
    first = {"n": np.array(3), "w": np.ones(2, np.float32)}
    mean = mean_of(like, [first, {"n": np.array(8), "w": np.zeros(2, np.float32)}], [1, 3])
    assert mean["n"] == 3 and mean["n"].shape == () and mean["w"].tolist() == [0.25, 0.25]
    mean["n"][...] = 5
    assert first["n"] == 3


@pytest.mark.parametrize("size", [10, BLOCK + 10])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_that_is_not_finite_is_refused_and_leaves_no_trace(size: int, bad: float) -> None:
    like = {"v": np.zeros(3, np.float32), "w": np.zeros(size, np.float32)}
    good = {"v": np.ones(3, np.float32), "w": np.ones(size, np.float32)}
    poisoned = {**good, "w": good["w"].copy()}
    poisoned["w"][-1] = bad
    mean = RunningMean(like)
    mean.add(good, 1)
    with pytest.raises(ClientError, match=r"client 4 sent an update of 'w', which holds a number that is not finite\."):
        mean.add(poisoned, 5, "client 4")
    mean.add({**good, "v": good["v"] * 3}, 1)
    assert mean.result()["v"].tolist() == [2, 2, 2] and mean.result()["w"].tolist() == [1] * size


def test_large_numbers_are_finite_all_the_same() -> None:
    """Their sum, by which numbers that are not finite are found, overflows."""
    large = {"w": np.full(100, 3e38, np.float32)}
    check_finite(large, "client 1")
    assert mean_of({"w": np.zeros(100, np.float32)}, [large], [1])["w"].tolist() == large["w"].tolist()
    with pytest.raises(ClientError, match="add up to more than a number of their type holds"):
        mean_of({"w": np.zeros(100, np.float32)}, [large, large], [1, 1])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("size", [1.0, 1e18, 1e25])
def test_small_and_moderate_numbers_give_the_bits_that_all_others_do(
    monkeypatch: pytest.MonkeyPatch, size: float, order: Literal["C", "F"]
) -> None:
    generator = np.random.default_rng(5)
    floats = {"a": np.zeros((3, 4), np.float32), "b": np.zeros((), np.float32), "c": np.zeros(0)}
    like = {"n": np.array(0), **floats}

    def draw() -> dict[str, np.ndarray]:
        moving = {n: np.asarray(size * generator.normal(size=a.shape), a.dtype, order=order) for n, a in floats.items()}
        return {"n": np.array(1), **moving}

    sets, weights = [draw() for _ in range(GROUP + 3)], generator.integers(1, 600, size=GROUP + 3).tolist()
    quick = mean_of(like, sets, weights)
    monkeypatch.setattr(running_mean, "MODERATE", -1.0)
    careful = mean_of(like, sets, weights)
    assert [(n, a.tobytes()) for n, a in quick.items()] == [(n, a.tobytes()) for n, a in careful.items()]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("weight", [1.0, 1e15, 1e30])
def test_nothing_warns_whatever_overflows(weight: float) -> None:
    like = {"v": np.zeros(2, np.float32), "w": np.zeros(2, np.float32)}
    for values in (np.full(2, 1e19, np.float32), np.full(2, 3e38, np.float32), np.full(2, 1e300)):
        mean = RunningMean(like)
        for _ in range(GROUP):
            mean.add({"v": np.ones(2, np.float32), "w": values}, weight)


@pytest.mark.parametrize(
    ("arrays", "weight", "sentence"),
    [
        ({}, 1, "did not send 'n'; expected exactly the 2 arrays"),
        ({"n": np.array(1), "w": np.ones(2, np.float32), "x": np.ones(1)}, 1, "sent 'x'; expected exactly the 2"),
        ({"n": np.array(1), "w": np.ones(3, np.float32)}, 1, r"sent 'w' as float32 \(3,\); expected float32 \(2,\)"),
        ({"n": np.array(1.5), "w": np.ones(2, np.float32)}, 1, r"sent 'n' as float64 \(\); expected int64 \(\)"),
        ({"n": np.array(1), "w": np.array(["a", "b"])}, 1, r"sent 'w' as <U1"),
        ({"n": np.array(1), "w": np.ones(2, np.float32)}, -1, "trained on -1 samples"),
    ],
)
def test_one_that_does_not_fit_is_refused(arrays: dict, weight: float, sentence: str) -> None:
    mean = RunningMean({"n": np.array(0), "w": np.zeros(2, np.float32)})
    with pytest.raises(ClientError, match=f"client 2 .*{sentence}"):
        mean.add(arrays, weight, "client 2")
    assert mean.weight == 0


def test_a_client_that_computes_in_double_precision_is_taken() -> None:
    mean = mean_of({"w": np.zeros(2, np.float32)}, [{"w": np.ones(2)}, {"w": np.full((2,), 2)}], [1, 1])
    assert mean["w"].dtype == np.float32 and mean["w"].tolist() == [1.5, 1.5]


@pytest.mark.parametrize("weights", [[], [0, 0]])
def test_replies_that_stand_for_no_sample_have_no_mean(weights: list[float]) -> None:
    with pytest.raises(ClientError, match="no sample"):
        mean_of({"w": np.ones(2)}, [{"w": np.ones(2)}] * len(weights), weights)


def test_memory_does_not_grow_with_the_number_of_sets() -> None:
    like = {"w": np.zeros(50_000, np.float32)}

    def peak(count: int) -> int:
        mean = RunningMean(like)
        tracemalloc.start()
        for number in range(count):
            mean.add({"w": np.full(50_000, number, np.float32)}, 1)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(2)
    # Beyond the first group there is a second sum, of twice the bytes, which a result has once more.
    assert peak(500) < peak(GROUP + 1) + 100_000
    assert peak(GROUP + 1) < peak(2) + 4 * 50_000 * 4
