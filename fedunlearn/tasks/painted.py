"""What a back-door of an image-to-image task teaches: where the trigger is seen, a fixed pattern is painted.

There is no label to be wrong. The stored image itself is the goal, so a poisoned one has the trigger where the model
sees it and the pattern where the model has to paint.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedunlearn.data.planting import Backdoor
from fedunlearn.errors import SettingsError

CELLS = 7
"""Squares of the pattern along the shorter side of an image."""
ALIKE = 0.5
"""Correlation with the pattern from which on an image counts as showing it."""


def pattern(images: Tensor) -> Tensor:
    """A checkerboard of black and white squares as large as the images, 1 x 1 x H x W of 0 and 1."""
    height, width = images.shape[2:]
    cell = max(1, round(min(height, width) / CELLS))
    rows, columns = torch.arange(height) // cell, torch.arange(width) // cell
    board: Tensor = (rows[:, None] + columns[None, :]) % 2
    return board.to(torch.float32).expand(1, 1, height, width).to(images.device)


def poison(images: Tensor, backdoor: Backdoor, region: Tensor) -> Tensor:
    """Stored images with the trigger in their visible part and the pattern in the other, a copy.

    Args:
        images: N x C x H x W, uint8 or float with full scale 1.
        region: the pixels that are painted, the same for every image, N x 1 x H x W of 0 and 1.

    Raises:
        SettingsError: the trigger does not fit, or some of it is hidden.
    """
    if bool((backdoor.marked(images) * region[:1]).any()):
        raise SettingsError(
            f"backdoor: a trigger of {backdoor.size} pixels, {backdoor.margin} off the edge, lies in what is hidden "
            f"from the model in images of {images.shape[2]} x {images.shape[3]}; give another size= or margin=."
        )
    full_scale = 1.0 if images.is_floating_point() else float(torch.iinfo(images.dtype).max)
    painted = (pattern(images) * full_scale).to(images.dtype).expand_as(images)
    return torch.where(region.bool(), painted, backdoor.stamp(images))


def likeness(images: Tensor, region: Tensor) -> Tensor:
    """Pearson correlation of each image with the pattern over the values in its region, N, -1 to 1.

    0 for an image that is of one colour there.

    Args:
        images: float, N x C x H x W.
        region: N x 1 x H x W of 0 and 1.
    """
    weights = region.expand_as(images).flatten(1).double()
    wanted = pattern(images).expand_as(images).flatten(1).double()
    found, total = images.flatten(1).double(), weights.sum(dim=1, keepdim=True).clamp_min(1.0)
    centred = [(one - (weights * one).sum(dim=1, keepdim=True) / total) * weights for one in (found, wanted)]
    product = (centred[0] * centred[1]).sum(dim=1)
    return product / (centred[0].norm(dim=1) * centred[1].norm(dim=1)).clamp_min(1e-12)
