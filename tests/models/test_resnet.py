from __future__ import annotations

import torch
from torch import nn

from fedunlearn.models.resnet import ResidualBlock, ResNet20


def test_twenty_layers_with_weights() -> None:
    network = ResNet20((3, 32, 32), 10)
    layers = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "shortcut" not in name
    ]
    assert len(layers) == 20
    # He et al. count 0.27 million parameters.
    assert 0.26e6 < sum(parameter.numel() for parameter in network.parameters()) < 0.28e6
    assert not list(network.buffers())


def test_without_its_convolutions_a_block_passes_its_input_on() -> None:
    block = ResidualBlock(16, 16, stride=1)
    nn.init.zeros_(block.norm2.weight)
    inputs = torch.rand(2, 16, 8, 8)
    assert torch.equal(block(inputs), inputs)
    assert ResidualBlock(16, 32, stride=2)(inputs).shape == (2, 32, 4, 4)
