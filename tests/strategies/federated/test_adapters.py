from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from fedunlearn.channels.packing import digest_state
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import ClientError
from fedunlearn.strategies.federated.adapters import adapted_rows, measure_change, without_adapters
from fedunlearn.tasks.training import train_locally


def test_the_change_is_that_of_one_local_training(make_work) -> None:
    work = make_work()
    by_hand = copy.deepcopy(work.model)
    from dataclasses import replace

    train_locally(
        work.task, by_hand, work.retain, replace(work.training, local_epochs=1), torch.Generator().manual_seed(7)
    )
    reply = measure_change(work)
    after = by_hand.state_dict()
    for layer, channels in (("0", 3), ("3", 4)):
        for channel in range(channels):
            moved = [(after[f"{layer}.{kind}"] - work.base[f"{layer}.{kind}"])[channel] for kind in ("weight", "bias")]
            wanted = torch.cat([one.flatten() for one in moved]).abs().mean()
            assert reply.arrays[layer][channel] == pytest.approx(float(wanted), rel=1e-5)
    assert {array.dtype for array in reply.arrays.values()} == {np.dtype(np.float32)}


def test_few_samples_do_not_tell_how_they_change_the_model(make_work) -> None:
    work = make_work()
    with pytest.raises(ClientError, match="fewer than 20"):
        measure_change(make_work(retain=Samples(work.retain.inputs[:19], work.retain.labels[:19])))


def test_layers_that_change_most_get_adapters_on_a_seeded_share_of_their_rows(make_work) -> None:
    layout = make_work().layout
    changes = {"0": np.array([0.1, 0.1, 0.1], np.float32), "3": np.array([0.9, 0.0, 0.0, 0.0], np.float32)}
    one = adapted_rows(changes, layout, 1, 0.5, 3)
    assert {layer: len(rows) for layer, rows in one.selected.items()} == {"3": 2}
    assert one == adapted_rows(changes, layout, 1, 0.5, 3)
    assert len({adapted_rows(changes, layout, 1, 0.5, seed) for seed in range(20)}) > 1
    assert adapted_rows(changes, layout, 9, 1.0, 3).count() == 7


def test_taking_the_adapters_off_gives_the_model_back(place) -> None:
    settings = UnlearnSettings(method="fused", rounds=2, options={"layers": 1, "share": 0.25})
    state, _ = place.serve("classes", settings)
    base = digest_state(place.model)
    assert digest_state(state.model) != base
    assert digest_state(without_adapters(state)) == digest_state(state.base) == base
    # The adapter itself is small: a quarter of the rows of one layer, and the output layer.
    assert [len(rows) for rows in state.mask.selected.values()] == [
        group.channels // 4 for group in state.layout.groups if group.layer in state.mask.selected
    ]
    changed = {name for name, tensor in state.model.items() if not torch.equal(tensor, place.model[name])}
    assert changed == set(state.portion.rows)
