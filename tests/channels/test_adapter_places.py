from __future__ import annotations

import pytest
import torch
from torch import nn

from fedunlearn.channels.adapter_places import Groups, adapter_places
from fedunlearn.channels.layout import channel_layout
from fedunlearn.errors import NoChannels
from fedunlearn.models import networks


def places(network: nn.Module, shape: tuple[int, int, int]) -> Groups:
    return adapter_places(network, channel_layout(network, torch.rand(2, *shape)))


def test_a_transformer_has_a_group_for_each_block_and_none_on_attention_or_head() -> None:
    network = networks.get("vit-small")((1, 8, 8), 10)
    assert places(network, (1, 8, 8)) == tuple(
        (f"encoder.layers.encoder_layer_{block}.mlp.0", f"encoder.layers.encoder_layer_{block}.mlp.3")
        for block in range(4)
    )


def test_other_networks_have_a_group_for_each_layer_with_channels() -> None:
    network = networks.get("lenet")((1, 8, 8), 10)
    assert places(network, (1, 8, 8)) == (("convolution1",), ("convolution2",), ("hidden",))


def test_a_network_without_a_place_is_told() -> None:
    grouped = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(NoChannels, match="no layer for adapters"):
        places(grouped, (4, 3, 3))


class Pooled(nn.Module):
    """A transformer with a linear layer between its blocks and its head."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(2))
        self.pooler = nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        tokens = inputs.flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(torch.tanh(self.pooler(tokens.mean(dim=1))))


def test_what_is_in_no_block_has_no_adapter() -> None:
    assert places(Pooled(), (8, 3, 3)) == tuple((f"blocks.{n}.linear1", f"blocks.{n}.linear2") for n in range(2))
