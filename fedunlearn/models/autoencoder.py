"""A convolutional auto-encoder that completes images through a bottleneck."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedunlearn.models.image_to_image import ImageToImageNetwork, region_of, squared_error
from fedunlearn.models.registered import InputShape, networks, require_size
from fedunlearn.models.steps import step

SMALLEST = (16, 32, 64)
SMALL = (32, 64, 128)
LARGE = (64, 128, 256)


class AutoEncoder(ImageToImageNetwork):
    """Convolutions of stride 2 down to a bottleneck, and the same widths back up; no connection passes it by.

    Every convolution but the last is followed by GroupNorm and SiLU. The way up enlarges by nearest neighbour and
    convolves, because a transposed convolution keeps its outputs where no channel can be selected.

    Args:
        input_shape: C, H, W of the images, of 8x8 pixels at least; any size comes out as it went in.
        classes: not used; images have none here.
        widths: channels of each step down. The usual ones have 0.2 million parameters, the larger 0.8, the smallest
            0.05.
    """

    def __init__(self, input_shape: InputShape, classes: int, widths: tuple[int, ...] = SMALL) -> None:
        super().__init__()
        require_size("auto-encoder", input_shape, 8)
        channels = input_shape[0]
        self.encoder = nn.ModuleList(step(*pair, stride=2) for pair in pairwise((channels + 1, *widths)))
        self.decoder = nn.ModuleList(step(*pair) for pair in pairwise((*reversed(widths), widths[0])))
        self.output = nn.Conv2d(widths[0], channels, 3, padding=1)

    def complete(self, degraded: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Completed images, N x C x H x W, 0 to 1; nothing is random."""
        hidden = self.encode(degraded)
        for one, size in zip(self.decoder, self._sizes(degraded), strict=True):
            hidden = one(functional.interpolate(hidden, size=size))
        return torch.sigmoid(self.output(hidden))

    def encode(self, degraded: Tensor) -> Tensor:
        """The bottleneck, N x D x H/8 x W/8."""
        hidden = degraded
        for one in self.encoder:
            hidden = one(hidden)
        return hidden

    def _sizes(self, degraded: Tensor) -> list[tuple[int, int]]:
        """The sizes that the way up comes through, the image's own last."""
        height, width = degraded.shape[2:]
        sizes: list[tuple[int, int]] = []
        for _ in self.encoder:
            sizes.insert(0, (height, width))
            height, width = -(-height // 2), -(-width // 2)
        return sizes

    def losses(self, degraded: Tensor, images: Tensor) -> Tensor:
        """Mean squared error of each image over the values in its region, N."""
        return squared_error(self.complete(degraded), images, region_of(degraded))


networks.register("auto-encoder", AutoEncoder)
networks.register("auto-encoder-small", partial(AutoEncoder, widths=SMALLEST))
networks.register("auto-encoder-large", partial(AutoEncoder, widths=LARGE))
