"""A small LeNet-like network (after LeCun et al., 1998) for grey and small images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedunlearn.models.registered import InputShape, networks, require_size

SMALLEST_UNPADDED = 16


class LeNet(nn.Module):
    """Two 5x5 convolutions (16 and 32 channels, each with ReLU and 2x2 max pooling), 64 hidden units, output.

    Inputs N x C x H x W of at least 8x8; convolutions pad by 2 where images are smaller than 16x16. Activations and
    pooling are modules, each used once: DeepLIFT follows no others.
    """

    def __init__(self, input_shape: InputShape, classes: int) -> None:
        super().__init__()
        require_size("lenet", input_shape, 8)
        padding = 2 if min(input_shape[1:]) < SMALLEST_UNPADDED else 0
        self.convolution1 = nn.Conv2d(input_shape[0], 16, 5, padding=padding)
        self.activation1 = nn.ReLU()
        self.pooling1 = nn.MaxPool2d(2)
        self.convolution2 = nn.Conv2d(16, 32, 5, padding=padding)
        self.activation2 = nn.ReLU()
        self.pooling2 = nn.MaxPool2d(2)
        with torch.no_grad():
            features = self._features(torch.zeros(1, *input_shape)).shape[1]
        self.hidden = nn.Linear(features, 64)
        self.activation3 = nn.ReLU()
        self.output = nn.Linear(64, classes)

    def _features(self, inputs: Tensor) -> Tensor:
        maps = self.pooling1(self.activation1(self.convolution1(inputs)))
        maps = self.pooling2(self.activation2(self.convolution2(maps)))
        return maps.flatten(1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits N x classes."""
        return self.output(self.activation3(self.hidden(self._features(inputs))))


networks.register("lenet", LeNet)
