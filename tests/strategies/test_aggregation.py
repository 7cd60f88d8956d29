from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedunlearn.channels.layout import Layout
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import ClientError
from fedunlearn.strategies.aggregation import Average, average, mean_number, weight_of, weighted_mean
from fedunlearn.strategies.method import ClientReply, State
from fedunlearn.tasks.training import TrainingSettings

ENTRIES = st.lists(
    st.tuples(st.integers(1, 500), st.lists(st.floats(-100, 100, width=32), min_size=4, max_size=4)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=50, deadline=None)
@given(ENTRIES)
def test_the_mean_is_numpy_s(entries: list[tuple[int, list[float]]]) -> None:
    weights = [weight for weight, _ in entries]
    arrays = [{"w": np.array(values, np.float32).reshape(2, 2)} for _, values in entries]
    mean = weighted_mean(arrays, weights)["w"]
    stacked = np.stack([one["w"] for one in arrays])
    assert mean.dtype == np.float32 and mean.shape == (2, 2)
    # A millionth of what was added up.
    np.testing.assert_allclose(mean, np.average(stacked, axis=0, weights=weights), rtol=0, atol=1e-4)


@pytest.mark.parametrize("weights", [[0, 0], [0, -1], [float("nan"), 1]])
def test_replies_that_stand_for_no_sample_are_refused(weights: list[float]) -> None:
    with pytest.raises(ClientError, match="sample"):
        weighted_mean([{"w": np.ones(2)}] * 2, weights)


def test_the_mean_of_numbers() -> None:
    assert mean_number([1.0, 3.0], [1, 3]) == 2.5
    for weights in ([0, 0], [float("nan"), 1]):
        with pytest.raises(ClientError, match="expected at least one sample"):
            mean_number([1.0, 3.0], weights)


def state(value: float = 0.0) -> State:
    model = {"w": torch.full((3,), value), "n": torch.tensor(4)}
    fresh = {"w": torch.full((3,), 9.0), "n": torch.tensor(0)}
    training = TrainingSettings(1, 0.1)
    return State(model, model, Layout((), (), ""), 0, fresh, UnlearnSettings(), training, rounds=1)


def reply(client: int, value: float, examples: float | None = 2) -> ClientReply:
    arrays = {"w": np.full(3, value, np.float32), "n": np.array(5)}
    return ClientReply(client, "remaining", arrays, {} if examples is None else {"num-examples": examples})


def test_one_at_a_time_is_all_at_once() -> None:
    replies = [reply(0, 1.0, 1), reply(1, 3.0, 3)]
    at_once = average(state(), replies)
    running = average.begin(state())
    for one in replies:
        running.add(one)
    for after in (at_once, running.result(), average(state(), iter(replies))):
        assert after.model["w"].tolist() == [2.5] * 3 and after.model["n"] == 5


def test_an_average_may_start_from_another_state() -> None:
    """Outside the portion, the model is that of the state from which it starts."""
    from_fresh = Average(lambda state: replace(state, model=state.fresh))
    after = from_fresh(state(1.0), [reply(0, 9.5)])
    assert after.model["w"].tolist() == [9.5] * 3
    assert after.base["w"].tolist() == [1.0] * 3


@pytest.mark.parametrize("examples", [None, -2])
def test_a_reply_that_does_not_say_how_many_samples_is_refused(examples: float | None) -> None:
    with pytest.raises(ClientError, match=r"client 7 .*samples"):
        average.begin(state()).add(reply(7, 1.0, examples))


def test_a_list_is_no_number_of_samples() -> None:
    with pytest.raises(ClientError, match="client 7 does not say"):
        weight_of({"num-examples": [1]}, "client 7")


def test_what_becomes_of_a_mean_is_told_what_was_sent_and_is_not_given_the_replies() -> None:
    model = {"w": torch.tensor([1.0, 2.0])}
    start = replace(state(), base=model, model=model)
    seen = []

    def half_way(before: State, averaged: State) -> State:
        seen.append((before.model["w"].tolist(), averaged.model["w"].tolist()))
        return replace(averaged, model={"w": (before.model["w"] + averaged.model["w"]) / 2})

    moved = Average(start=lambda one: replace(one, model={"w": one.model["w"] + 1}), finish=half_way)
    running = moved.begin(start)
    for client, value in enumerate((4.0, 8.0)):
        arrays = {"w": np.full(2, value, np.float32)}
        running.add(ClientReply(client, "remaining", arrays, {"num-examples": 1.0}))
    assert running.result().model["w"].tolist() == [4.0, 4.5]
    assert seen == [([2.0, 3.0], [6.0, 6.0])]
