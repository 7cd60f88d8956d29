from __future__ import annotations

import torch
from torch import nn

from fedunlearn.models.groupnorm_cnn import GroupNormCNN


def test_three_blocks_of_growing_width() -> None:
    network = GroupNormCNN((3, 32, 32), 10)
    widths = [module.num_channels for module in network.modules() if isinstance(module, nn.GroupNorm)]
    assert widths == [32, 64, 128]
    assert network.hidden.weight.shape == (128, 128 * 4 * 4)
    assert not list(network.buffers()), "no running statistics that a federation would have to average"


def test_training_mode_changes_nothing() -> None:
    network, inputs = GroupNormCNN((1, 16, 16), 4), torch.rand(3, 1, 16, 16)
    assert torch.equal(network.train()(inputs), network.eval()(inputs))
