"""What is hidden or spoiled in an image before a model has to bring it back, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from fedunlearn.errors import SettingsError
from fedunlearn.models.draws import normal, uniform
from fedunlearn.registry import Registry


class Degradation(Protocol):
    """What is done to images (N x C x H x W, 0 to 1): a pure function of them and the generator."""

    def __call__(self, images: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """The spoiled images, N x C x H x W, and the pixels that are judged, N x 1 x H x W of 0 and 1."""
        ...


@dataclass(frozen=True)
class Kind:
    """One kind of degradation.

    Attributes:
        what: one line for the list of tasks.
        make: a degradation for a strength.
        strength: what the number says, and its range; empty where there is none to choose.
        usual: the strength when none is named.
        limits: the strength is above the first and below the second.
        colour: whether images must have three channels.
        hides: whether the same pixels are hidden in every image, so that a pattern can be taught there.
    """

    what: str
    make: Callable[[float], Degradation]
    strength: str = ""
    usual: float = 1.0
    limits: tuple[float, float] = (0.0, 1.0)
    colour: bool = False
    hides: bool = False

    def degradation(self, name: str, strength: float | None) -> Degradation:
        """The degradation at a strength; None for the usual one.

        Raises:
            SettingsError: the strength is out of range, or there is none to choose.
        """
        if strength is not None and not self.strength:
            raise SettingsError(f"{name!r} has no strength; write {name}:SOURCE.")
        chosen = self.usual if strength is None else strength
        if self.strength and not self.limits[0] < chosen < self.limits[1]:
            low, high = self.limits
            raise SettingsError(f"{name}={chosen:g} is out of range; expected {self.strength}: {low:g} to {high:g}.")
        return self.make(chosen)


degradations: Registry[Kind] = Registry("degradation", group="fedunlearn.degradations")


@dataclass(frozen=True)
class CentreHidden:
    """The centre is black; `side` is that of the hidden square over the image's."""

    side: float

    def __call__(self, images: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Images without their centre, and the centre."""
        region = _centre(images, self.side)
        return images * (1 - region), region


@dataclass(frozen=True)
class BorderHidden:
    """All but the centre is black; `side` is that of the visible square over the image's."""

    side: float

    def __call__(self, images: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """The centres of the images, and what surrounds them."""
        region = 1 - _centre(images, self.side)
        return images * (1 - region), region


@dataclass(frozen=True)
class PatchesHidden:
    """Square patches are black, about seven to a side, each with the probability `share`; one at least."""

    share: float

    def __call__(self, images: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Images with holes, and the holes."""
        height, width = images.shape[2:]
        patch = max(1, round(min(height, width) / 7))
        rows, columns = -(-height // patch), -(-width // patch)
        draws = uniform(images, (rows * columns,), generator)
        # The lowest draw is always hidden: an image without a hole has nothing to judge.
        holes = (draws < self.share) | (draws == draws.amin(dim=1, keepdim=True))
        grid = holes.to(images.dtype).view(-1, 1, rows, columns)
        region = functional.interpolate(grid, scale_factor=patch)[:, :, :height, :width]
        return images * (1 - region), region


@dataclass(frozen=True)
class Noise:
    """Gaussian noise of standard deviation `deviation` is added; the result is kept within 0 and 1."""

    deviation: float

    def __call__(self, images: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Noisy images, and all of their pixels."""
        noise = normal(images, tuple(images.shape[1:]), generator)
        return (images + self.deviation * noise).clamp(0.0, 1.0), torch.ones_like(images[:, :1])


@dataclass(frozen=True)
class ColourRemoved:
    """Only the luminance is left (ITU-R BT.601), in all channels."""

    strength: float = 1.0

    def __call__(self, images: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Grey images, and all of their pixels."""
        weights = torch.tensor([0.299, 0.587, 0.114], dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
        return (images * weights).sum(dim=1, keepdim=True).expand_as(images), torch.ones_like(images[:, :1])


def _centre(images: Tensor, side: float) -> Tensor:
    """1 in the centred rectangle of `side` times height and width, 0 elsewhere, N x 1 x H x W; neither is empty."""
    height, width = images.shape[2:]
    tall, wide = (min(max(1, round(side * whole)), max(1, whole - 1)) for whole in (height, width))
    top, left = (height - tall) // 2, (width - wide) // 2
    inside = functional.pad(
        torch.ones(tall, wide, dtype=images.dtype, device=images.device),
        (left, width - wide - left, top, height - tall - top),
    )
    return inside.expand(len(images), 1, height, width)


degradations.register(
    "inpainting",
    Kind("The hidden centre is filled in.", CentreHidden, "hidden side over the image's", 0.5, hides=True),
)
degradations.register(
    "outpainting",
    Kind("What surrounds the visible centre is added.", BorderHidden, "visible side over the image's", 0.5, hides=True),
)
degradations.register("completion", Kind("Hidden patches are filled in.", PatchesHidden, "share that is hidden", 0.5))
degradations.register("denoising", Kind("Gaussian noise is taken away.", Noise, "standard deviation", 0.25))
degradations.register(
    "colourisation", Kind("Colour is added to grey images.", lambda strength: ColourRemoved(), colour=True)
)
