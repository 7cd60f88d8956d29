from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedunlearn.channels.layout import channel_layout
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import ClientError
from fedunlearn.strategies.method import ClientReply, State
from fedunlearn.strategies.nabla_tau_terms import Terms
from fedunlearn.strategies.role_counts import AverageByTerms, counts, keep_counts, totals
from fedunlearn.strategies.serving import TargetGone
from fedunlearn.tasks.training import TrainingSettings

MEAN = AverageByTerms(
    terms=lambda state: Terms(0.25, *totals(state, "gone", "kept")), forgotten="gone", retained="kept"
)


@pytest.fixture
def state() -> State:
    """Client 0 forgets 4 and keeps 6, client 1 keeps 14."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    tensors = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    recipe = TrainingSettings(local_epochs=1, learning_rate=0.1)
    layout = channel_layout(model, torch.zeros(1, 2))
    found = State(tensors, tensors, layout, 0, tensors, UnlearnSettings(), recipe, rounds=1)
    found = keep_counts("gone")(found, [said(0, 4)])
    return keep_counts("kept")(found, [said(0, 6), said(1, 14)])


def said(client: int, samples: int) -> ClientReply:
    return ClientReply(client, "remaining", {}, {"num-examples": samples})


def reply(state: State, client: int, value: float) -> ClientReply:
    arrays = {name: np.full(tensor.shape, value, np.float32) for name, tensor in state.model.items()}
    return ClientReply(client, "remaining", arrays, {"num-examples": 1})


def test_counts_are_left_by_client(state: State) -> None:
    assert counts(state, "kept") == {0: 6.0, 1: 14.0}
    assert totals(state, "gone", "kept") == (4.0, 20.0)


@pytest.mark.parametrize("name", ["gone", "kept"])
def test_nothing_of_one_kind_is_told(state: State, name: str) -> None:
    with pytest.raises(ClientError, match="nothing to forget, or nothing to keep"):
        totals(keep_counts(name)(state, [said(0, 0), said(1, 0)]), "gone", "kept")


def test_clients_weigh_by_both_terms(state: State) -> None:
    after = MEAN(state, [reply(state, 0, 1.0), reply(state, 1, 5.0)])
    # 0.25 x 4 x 20 / 4 + 0.75 x 6 = 9.5, and 0.75 x 14 = 10.5.
    expected = (9.5 * 1.0 + 10.5 * 5.0) / 20
    assert {round(float(x), 5) for t in after.model.values() for x in t.flatten()} == {round(expected, 5)}


def test_who_never_said_how_many_has_no_weight(state: State) -> None:
    with pytest.raises(ClientError, match="client 7 did not say how many samples it has"):
        MEAN(state, [reply(state, 7, 1.0)])


def test_without_a_target_nothing_would_be_forgotten(state: State) -> None:
    with pytest.raises(TargetGone, match="no target answered"):
        MEAN(state, [reply(state, 1, 5.0)])


def test_what_becomes_of_the_mean(state: State) -> None:
    def finish(before: State, averaged: State) -> State:
        return replace(averaged, arrays={"was": np.array(float(before.model["0.bias"][0]))})

    after = replace(MEAN, finish=finish)(state, [reply(state, 0, 1.0), reply(state, 1, 5.0)])
    assert after.arrays.keys() == {"was"}
