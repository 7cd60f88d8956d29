"""Random numbers for images that are the same whenever an image is evaluated, and drawn anew while training."""

from __future__ import annotations

import torch
from torch import Tensor

from fedunlearn.randomness import derive_seed

DRAWS = 64
"""How many different draws there are where an image's own is fixed."""


def uniform(images: Tensor, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Numbers from 0 to 1 for each image, N x `shape`; with no generator always the same ones for an equal image."""
    if generator is not None:
        return torch.rand(len(images), *shape, generator=generator).to(images.device)
    return torch.rand(DRAWS, *shape, generator=_known()).to(images.device)[own_draw(images)]


def normal(images: Tensor, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """As `uniform`, with standard normal numbers."""
    if generator is not None:
        return torch.randn(len(images), *shape, generator=generator).to(images.device)
    return torch.randn(DRAWS, *shape, generator=_known()).to(images.device)[own_draw(images)]


def own_draw(images: Tensor) -> Tensor:
    """Which of the fixed draws is each image's, N: from its values, so that neither batch nor order matters."""
    return (images * 255).round().long().flatten(1).sum(dim=1) % DRAWS


def _known() -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed("fixed draws"))
