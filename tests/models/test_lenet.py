from __future__ import annotations

import torch

from fedunlearn.models.lenet import LeNet


def test_widths_and_size() -> None:
    network = LeNet((1, 28, 28), 10)
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    assert shapes["convolution1.weight"] == (16, 1, 5, 5)
    assert shapes["convolution2.weight"] == (32, 16, 5, 5)
    # 28 -> 24 -> 12 -> 8 -> 4 pixels a side.
    assert shapes["hidden.weight"] == (64, 32 * 4 * 4)
    assert shapes["output.weight"] == (10, 64)


def test_a_shift_of_the_output_bias_shifts_the_logits() -> None:
    network = LeNet((1, 8, 8), 3)
    inputs = torch.rand(2, 1, 8, 8)
    before = network(inputs)
    with torch.no_grad():
        network.output.bias += torch.tensor([0.0, 1.0, -2.0])
    assert torch.allclose(network(inputs) - before, torch.tensor([0.0, 1.0, -2.0]).expand(2, 3), atol=1e-5)
