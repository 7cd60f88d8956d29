from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.config import FederationSettings
from fedunlearn.data.dataset import Dataset, Samples
from fedunlearn.data.holding import holding
from fedunlearn.data.server_share import server_inputs, server_positions


def dataset() -> Dataset:
    inputs, labels = torch.arange(400.0)[:, None], torch.arange(400) % 4
    return Dataset(Samples(inputs, labels), Samples(inputs[:8], labels[:8]), ("a", "b", "c", "d"))


@pytest.mark.parametrize("partition", ["iid", "dirichlet:1.0", "pathological:2"])
def test_server_and_clients_hold_everything_once(partition: str) -> None:
    data = dataset()
    settings = FederationSettings(clients=4, partition=partition, server_data=0.2, seed=3)
    own = server_inputs(settings, data)
    assert own is not None and len(own) == 80
    held = torch.cat([own, *(holding(settings, client, data).samples.inputs for client in range(4))])
    assert sorted(held[:, 0].tolist()) == data.train.inputs[:, 0].tolist()
    for client in range(4):
        kept = holding(settings, client, data).samples
        assert torch.equal(kept.labels, kept.inputs[:, 0].long() % 4)


def test_without_a_share_the_server_has_nothing_and_clients_hold_what_they_held() -> None:
    data = dataset()
    plain = FederationSettings(clients=4, partition="iid")
    assert server_inputs(plain, data) is None
    # Written down before there was such a setting.
    assert holding(plain, 0, data).samples.inputs[:6, 0].tolist() == [2.0, 3.0, 5.0, 7.0, 17.0, 28.0]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.floats(0, 0.99), st.integers(0, 2**32))
def test_the_share_is_taken_alike_from_every_class_and_follows_the_seed(labels, share, seed) -> None:
    found = server_positions(np.array(labels), share, seed)
    assert len(found) == round(share * len(labels)) and np.array_equal(found, np.unique(found))
    assert np.array_equal(found, server_positions(np.array(labels), share, seed))
    for label in set(labels):
        count = labels.count(label)
        assert abs(sum(labels[p] == label for p in found) - share * count) <= 1
