"""A small convolutional network with group normalisation, for small colour images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedunlearn.models.registered import InputShape, networks, require_size

WIDTHS = (32, 64, 128)
GROUPS = 8
HIDDEN = 128


class GroupNormCNN(nn.Module):
    """Three blocks (3x3 convolution, GroupNorm, ReLU, 2x2 max pooling; 32, 64, 128 channels), 128 hidden.

    Inputs N x C x H x W of at least 8x8. GroupNorm (Wu and He, 2018) has no running statistics, which is why
    federated learning prefers it to batch normalisation.
    """

    def __init__(self, input_shape: InputShape, classes: int) -> None:
        super().__init__()
        require_size("groupnorm-cnn", input_shape, 8)
        blocks: list[nn.Module] = []
        before = input_shape[0]
        for width in WIDTHS:
            blocks.append(
                nn.Sequential(
                    nn.Conv2d(before, width, 3, padding=1),
                    nn.GroupNorm(GROUPS, width),
                    nn.ReLU(),
                    nn.MaxPool2d(2),
                )
            )
            before = width
        self.blocks = nn.Sequential(*blocks)
        with torch.no_grad():
            features = self.blocks(torch.zeros(1, *input_shape)).flatten(1).shape[1]
        self.hidden = nn.Linear(features, HIDDEN)
        self.activation = nn.ReLU()
        self.output = nn.Linear(HIDDEN, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits N x classes."""
        return self.output(self.activation(self.hidden(self.blocks(inputs).flatten(1))))


networks.register("groupnorm-cnn", GroupNormCNN)
