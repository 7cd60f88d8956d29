"""The network for tables."""

from __future__ import annotations

import torch
from torch.nn import functional

from fedunlearn.channels.layout import channel_layout
from fedunlearn.models.perceptron import Perceptron
from fedunlearn.tasks import get_task


def test_it_is_two_hidden_layers_and_an_output() -> None:
    torch.manual_seed(0)
    network, inputs = Perceptron((30,), 2), torch.randn(5, 30)  # type: ignore[arg-type]
    state = network.state_dict()
    values = inputs
    for layer in ("hidden1", "hidden2", "output"):
        values = values @ state[f"{layer}.weight"].T + state[f"{layer}.bias"]
        values = functional.relu(values) if layer != "output" else values
    assert torch.allclose(network(inputs), values, atol=1e-6)
    assert network(inputs.reshape(5, 5, 6)).shape == (5, 2)


def test_its_hidden_units_are_channels() -> None:
    task = get_task("breast-cancer")
    data = task.dataset(0)
    layout = channel_layout(task.build(None, 0, data), task.inputs(data.test.inputs[:2]))
    assert [(group.layer, group.channels) for group in layout.groups] == [("hidden1", 32), ("hidden2", 16)]
    assert layout.output_layer == "output"
