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
            0.05: they take a quarter of the usual time.
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
        hidden, sizes = self._down(degraded)
        for one, size in zip(self.decoder, reversed(sizes), strict=True):
            hidden = one(functional.interpolate(hidden, size=size))
        return torch.sigmoid(self.output(hidden))

    def features(self, degraded: Tensor) -> Tensor:
        """The bottleneck's features, N x F x h x w."""
        return self._down(degraded)[0]

    def _down(self, degraded: Tensor) -> tuple[Tensor, list[torch.Size]]:
        """The bottleneck's features, and the sizes on the way down to it."""
        sizes, hidden = [], degraded
        for one in self.encoder:
            sizes.append(hidden.shape[2:])
            hidden = one(hidden)
        return hidden, sizes

    def losses(self, degraded: Tensor, images: Tensor) -> Tensor:
        """Mean squared error of each image over the values in its region, N."""
        return squared_error(self.complete(degraded), images, region_of(degraded))


networks.register("auto-encoder", AutoEncoder)
networks.register("auto-encoder-small", partial(AutoEncoder, widths=SMALLEST))
networks.register("auto-encoder-large", partial(AutoEncoder, widths=LARGE))
