from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import ClientError
from fedunlearn.strategies.federated.class_pruning import (
    activations_by_class,
    mean_activations,
    silence,
    tf_idf,
    top_of_network,
)


def test_scores_by_hand() -> None:
    # Three classes, three channels. Means over the classes: 2, 2, 1.
    table = torch.tensor([[6.0, 2.0, 0.0], [0.0, 2.0, 1.0], [0.0, 2.0, 2.0]])
    found = tf_idf({"layer": table}, [0])["layer"].tolist()
    # Channel 0 is active in one class of three, channel 1 in all, channel 2 in two.
    assert found == pytest.approx([6 / 8 * math.log(4 / 2), 2 / 8 * math.log(4 / 4), 0.0])
    both = tf_idf({"layer": table}, [0, 2])["layer"].tolist()
    assert both == pytest.approx([found[0], 0.0, 2 / 4 * math.log(4 / 3)])


def test_a_class_that_activates_nothing_has_no_scores() -> None:
    assert tf_idf({"layer": torch.tensor([[0.0, 0.0], [1.0, 2.0]])}, [0])["layer"].tolist() == [0.0, 0.0]


def test_the_threshold_is_that_of_the_whole_network_and_a_layer_keeps_a_channel() -> None:
    scores = {"small": torch.tensor([0.9, 0.8]), "large": torch.tensor([0.1, 0.7, 0.2, 0.3, 0.0, 0.0, 0.0, 0.0])}
    chosen = top_of_network(scores, 0.3).selected
    # The three highest of ten; the second of the small layer would leave it without a channel.
    assert chosen["small"].tolist() == [0]
    assert chosen["large"].tolist() == [1]


def test_activations_are_means_over_space_and_samples(make_work) -> None:
    work = make_work()
    labels = torch.cat([torch.zeros(25), torch.ones(22), torch.full((3,), 2.0)]).long()
    inputs = torch.rand(50, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    found = activations_by_class(work, Samples(inputs, labels))
    assert found["classes"].tolist() == [25.0, 22.0, 0.0]
    with torch.no_grad():
        maps = work.model[0](inputs).relu()
        dense = work.model[:4](inputs).relu()
    for label in (0, 1):
        assert found["0"][label] == pytest.approx(maps[labels == label].mean(dim=(0, 2, 3)).numpy(), rel=1e-5)
        assert found["3"][label] == pytest.approx(dense[labels == label].mean(dim=0).numpy(), rel=1e-5)
    # Three samples of class 2 are fewer than twenty: nothing is told of them.
    assert not found["0"][2].any() and not found["3"][2].any()


def test_clients_count_by_their_samples_of_the_class(make_work) -> None:
    layout = make_work().layout
    replies = [
        {"0": np.full((3, 3), value, np.float32), "3": np.full((3, 4), value, np.float32), "classes": counts}
        for value, counts in (
            (1.0, np.array([30, 0, 0], np.float32)),
            (4.0, np.array([60, 20, 0], np.float32)),
        )
    ]
    tables, counts = mean_activations(replies, layout)
    assert counts.tolist() == [90.0, 20.0, 0.0]
    assert tables["0"][:, 0].tolist() == [3.0, 4.0, 0.0]


def test_what_is_silenced_has_no_output(make_work) -> None:
    work = make_work()
    mask = top_of_network({"0": torch.tensor([1.0, 3.0, 2.0]), "3": torch.zeros(4)}, 2 / 7)
    work.model.load_state_dict(silence(work.base, mask, work.layout))
    maps = work.model[0](work.retain.inputs)
    assert [bool((maps[:, channel] == 0).all()) for channel in range(3)] == [False, True, True]


def test_pruned_channels_stay_zero_while_the_others_are_tuned(place) -> None:
    state, _ = place.serve("class-everywhere", UnlearnSettings(method="class-pruning", rounds=2))
    pruned = {
        group.layer: torch.from_numpy(state.arrays[f"pruned:{group.layer}"].astype(np.int64))
        for group in state.layout.groups
    }
    assert sum(len(channels) for channels in pruned.values()) == round(0.05 * state.layout.total_channels)
    for group in state.layout.groups:
        for name in group.parameters:
            silent = torch.zeros(group.channels, dtype=torch.bool)
            silent[pruned[group.layer]] = True
            assert not state.model[name][silent].any()
            assert (
                (state.model[name][~silent] != place.model[name][~silent])
                .flatten(1 - (state.model[name].dim() == 1))
                .any()
            )


def test_a_class_that_no_client_holds_enough_of_cannot_be_scored(place) -> None:
    settings = UnlearnSettings(method="class-pruning", rounds=1)
    from fedunlearn.strategies.method import ClientReply, methods

    state = replace(place.state("classes", settings), arrays={"forgotten": np.eye(10, dtype=np.float32)[1]})
    reply = {g.layer: np.zeros((10, g.channels), np.float32) for g in state.layout.groups}
    reply["classes"] = np.full(10, 30, np.float32) * (np.arange(10) != 1)
    query = methods.get("class-pruning").phases(settings, 2)[1]
    with pytest.raises(ClientError, match="no client holds 20 samples"):
        query.combine(state, [ClientReply(0, "target", reply, {"num-examples": 300})])
