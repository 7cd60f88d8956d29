"""What networks that complete images have in common."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ImageToImageNetwork(nn.Module):
    """A network from degraded images (N x (C + 1) x H x W, the region as last channel) to whole ones.

    One call serves both uses, so that whatever wraps or replaces a call (stacked clients, frozen layers) sees all of
    the model: without `images` it completes, with them it tells the loss of each.
    """

    def forward(self, degraded: Tensor, images: Tensor | None = None) -> Tensor:
        """Completed images (N x C x H x W, 0 to 1), or with the true `images` the loss of each sample, N."""
        return self.complete(degraded) if images is None else self.losses(degraded, images)

    def complete(self, degraded: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Completed images, N x C x H x W, 0 to 1.

        Args:
            generator: decides what is random; None: draws that are fixed.
        """
        raise NotImplementedError

    def encode(self, degraded: Tensor) -> Tensor:
        """The encoder's features, N x ..., differentiable; nothing but the encoder's parameters shapes them."""
        raise NotImplementedError

    def losses(self, degraded: Tensor, images: Tensor) -> Tensor:
        """The loss of each sample, N."""
        raise NotImplementedError


def region_of(degraded: Tensor) -> Tensor:
    """The pixels that are judged, N x 1 x H x W of 0 and 1."""
    return degraded[:, -1:]


def squared_error(completed: Tensor, images: Tensor, region: Tensor) -> Tensor:
    """Mean squared error of each image over the values in its region, N."""
    squares = ((completed - images).square() * region).flatten(1).sum(dim=1)
    return squares / (region.flatten(1).sum(dim=1) * images.shape[1]).clamp_min(1.0)
