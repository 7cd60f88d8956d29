from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedunlearn.channels.layout import channel_layout
from fedunlearn.strategies.federated.weight_vectors import flatten, weight_names, with_weights


def test_running_statistics_and_counters_are_no_weights() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    layout = channel_layout(model, torch.rand(2, 1, 4, 4))
    names = weight_names(model.state_dict(), layout)
    assert names == ["0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias"]
    changed = with_weights(model.state_dict(), names, torch.zeros(18 + 2 + 2 + 2 + 24 + 3, dtype=torch.float64))
    assert all(not changed[name].any() for name in names)
    assert torch.equal(changed["1.running_var"], torch.ones(2))
    assert list(changed) == list(model.state_dict())


@given(st.lists(st.lists(st.integers(1, 3), max_size=3), min_size=1, max_size=4), st.integers(0, 99))
def test_a_vector_goes_back_to_where_it_came_from(shapes: list[list[int]], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    model = {str(number): torch.randn(shape, generator=generator) for number, shape in enumerate(shapes)}
    names = list(model)
    vector = flatten(model, names)
    again = with_weights({name: torch.zeros_like(tensor) for name, tensor in model.items()}, names, vector)
    assert all(torch.equal(again[name], tensor) for name, tensor in model.items())
    assert vector.dtype == torch.float64
