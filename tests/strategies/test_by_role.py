from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fedunlearn.channels.layout import channel_layout
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import ClientError
from fedunlearn.strategies.aggregation import Average
from fedunlearn.strategies.by_role import (
    AverageWithKept,
    AverageWithTarget,
    KeepMean,
    add_kept,
    kept,
    kept_weight,
    without_kept,
)
from fedunlearn.strategies.method import ClientReply, State
from fedunlearn.tasks.training import TrainingSettings


@pytest.fixture
def state() -> State:
    """A model of two layers and a counter."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    layout = channel_layout(model, torch.zeros(1, 2))
    tensors = {name: torch.ones_like(tensor) for name, tensor in model.state_dict().items()}
    tensors["steps"] = torch.tensor(4)
    recipe = TrainingSettings(local_epochs=1, learning_rate=0.1)
    return State(tensors, tensors, layout, 0, tensors, UnlearnSettings(), recipe, rounds=1)


def reply(state: State, value: float, weight: int, role: str = "remaining", steps: int = 5) -> ClientReply:
    arrays = {
        name: np.full(tensor.shape, value if tensor.is_floating_point() else steps, tensor.numpy().dtype)
        for name, tensor in state.model.items()
    }
    return ClientReply(weight, role, arrays, {"num-examples": weight})  # type: ignore[arg-type]


def values(state: State) -> set[float]:
    return {float(x) for tensor in state.model.values() if tensor.is_floating_point() for x in tensor.flatten()}


def test_a_mean_is_kept_and_the_model_stays(state: State) -> None:
    after = KeepMean(name="apart")(state, [reply(state, 2.0, 10), reply(state, 5.0, 20)])
    assert after.model is state.model
    assert {float(x) for name, array in kept(after, "apart").items() if name != "steps" for x in array.flat} == {4.0}
    assert kept_weight(after, "apart") == 30
    assert without_kept(after, "apart").arrays == {}
    assert kept(state, "apart") == {} and kept_weight(state, "apart") == 0


def test_the_server_computes_with_a_mean_that_is_there(state: State) -> None:
    seen = []
    KeepMean(name="apart", then=lambda after: seen.append(kept_weight(after, "apart")) or after)(
        state, [reply(state, 2.0, 10)]
    )
    assert seen == [10]


def test_what_was_kept_is_averaged_as_if_it_had_come_with_the_others(state: State) -> None:
    apart = KeepMean(name="apart")(state, [reply(state, 3.0, 10)])
    joined = AverageWithKept(name="apart")(apart, [reply(state, 7.0, 30)])
    assert values(joined) == {6.0} and joined.arrays == {}
    assert joined.model.keys() == state.model.keys()


def test_changes_of_both_roles_are_added(state: State) -> None:
    apart = KeepMean(name="apart")(state, [reply(state, 0.5, 10, steps=9)])
    joined = add_kept("apart")(apart, [reply(state, 3.0, 30), reply(state, 1.0, 30)])
    # 1 + (2 - 1) + (0.5 - 1)
    assert values(joined) == {1.5} and joined.arrays == {}
    assert int(joined.model["steps"]) == 5


@pytest.mark.parametrize("combine", [AverageWithKept(name="apart"), add_kept("apart")])
def test_without_a_target_the_others_are_averaged(state: State, combine: Average) -> None:
    replies = [reply(state, 3.0, 10), reply(state, 5.0, 10)]
    assert values(combine(state, replies)) == values(Average()(state, replies)) == {4.0}


def test_a_joint_phase_may_insist_on_a_target(state: State) -> None:
    both = [reply(state, 3.0, 10), reply(state, 5.0, 30, "target")]
    assert values(AverageWithTarget()(state, both)) == {4.5}
    with pytest.raises(ClientError, match="no target answered"):
        AverageWithTarget()(state, both[:1])


def test_replies_need_not_be_kept() -> None:
    """Serving adds replies one at a time to whatever is an `Average`."""
    kinds = (KeepMean(), AverageWithKept(), add_kept("apart"), AverageWithTarget())
    assert all(isinstance(one, Average) for one in kinds)


def test_a_reply_of_another_shape_counts_for_nothing(state: State) -> None:
    running = KeepMean(name="apart").begin(state)
    bad = SimpleNamespace(client=3, role="target", arrays={}, metrics={"num-examples": 5})
    with pytest.raises(ClientError, match="client 3 did not send"):
        running.add(bad)  # type: ignore[arg-type]
    running.add(reply(state, 2.0, 4))
    assert kept_weight(running.result(), "apart") == 4
