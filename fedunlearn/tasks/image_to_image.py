"""Image-to-image tasks: a part of each image is hidden or spoiled, and a network brings it back.

The tasks of Li et al. ("Machine Unlearning for Image-to-Image Generative Models", ICLR 2024) and of "Realistic
image-to-image machine unlearning via decoupling and knowledge retention" (2025) are in-painting and out-painting;
the strengths that are used here when none is named are *reconstructions*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from fedunlearn.data.dataset import Dataset
from fedunlearn.data.identity import ByIdentity, hashable
from fedunlearn.data.planting import Backdoor
from fedunlearn.data.sources import load_dataset
from fedunlearn.errors import SettingsError
from fedunlearn.models import networks as known_networks
from fedunlearn.models.image_to_image import ImageToImageNetwork, region_of
from fedunlearn.randomness import derive_seed
from fedunlearn.tasks.degradations import Degradation, degradations
from fedunlearn.tasks.painted import poison
from fedunlearn.tasks.randomness import isolated_seed

NETWORKS = (
    "auto-encoder-small",
    "diffusion-small",
    *(f"{family}{size}" for family in ("auto-encoder", "vq-gan", "diffusion") for size in ("", "-large")),
)
DEFAULT_NETWORK = "auto-encoder"
COLOUR = 3


@dataclass(frozen=True)
class ImageToImage:
    """Bring degraded images back.

    In training every call degrades anew, by torch's global generator (`train_locally` seeds it); in evaluation each
    image has draws of its own that never change, so that equal models give equal figures.

    Args:
        name: what it is asked for by.
        source: the name of a data source, or a callable `seed -> Dataset` of images N x C x H x W.
        degradation: what is done to the images.
        networks: names of the networks that fit.
        default_network: the one that is built when none is named.
        colour: whether images must have three channels.
        hides: whether the same pixels are hidden in every image, so that a back-door can teach a pattern there.
    """

    name: str
    source: str | Callable[[int], Dataset]
    degradation: Degradation
    networks: tuple[str, ...] = NETWORKS
    default_network: str = DEFAULT_NETWORK
    colour: bool = False
    hides: bool = False

    def dataset(self, seed: int) -> Dataset:
        """The training and test samples, split with `seed` where the source has no split of its own.

        Raises:
            SettingsError: they are not images, or grey ones where colours are needed.
        """
        return _dataset(hashable(self), seed)

    def _load(self, seed: int) -> Dataset:
        dataset = load_dataset(self.source, seed)
        if len(dataset.input_shape) != 3:
            raise SettingsError(
                f"task {self.name!r} completes images, and the inputs of {self.source!r} have the shape "
                f"{' x '.join(map(str, dataset.input_shape))}; name a source of images."
            )
        if self.colour and dataset.input_shape[0] != COLOUR:
            raise SettingsError(
                f"task {self.name!r} adds colours, and the images of {self.source!r} are grey; "
                "name a source of colour images, or another task."
            )
        return replace(dataset, painted=self._painted)

    def _painted(self, images: Tensor, backdoor: Backdoor) -> Tensor:
        """Stored images as a back-door poisons them."""
        if not self.hides:
            raise SettingsError(
                f"backdoor: task {self.name!r} hides no part that is the same in every image, so that no pattern can "
                "be taught there; in-painting and out-painting do."
            )
        return poison(images, backdoor, self.region(images))

    def build(self, network: str | None, seed: int, dataset: Dataset) -> nn.Module:
        """The network called `network` (None: the default), initialised from `seed`, for `dataset`'s images.

        Raises:
            SettingsError: the task does not offer this network, or the network cannot take these images.
        """
        chosen = network or self.default_network
        if chosen not in self.networks and chosen not in known_networks.names():
            raise SettingsError(
                f"task {self.name!r} has no network {chosen!r}; choose one of {', '.join(self.networks)}."
            )
        shape: tuple[int, int, int] = dataset.input_shape  # type: ignore[assignment]
        with isolated_seed(derive_seed("network", chosen, seed)):
            model = known_networks.get(chosen)(shape, len(dataset.classes))
        if not isinstance(model, ImageToImageNetwork):
            raise SettingsError(
                f"network {chosen!r} does not complete images, which task {self.name!r} needs; "
                f"choose one of {', '.join(self.networks)}."
            )
        return model

    def inputs(self, raw: Tensor) -> Tensor:
        """Bytes become floats from 0 to 1; floating-point images stay as they are."""
        return raw.to(torch.float32).div_(255) if raw.dtype == torch.uint8 else raw.to(torch.float32)

    def degrade(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What the model is fed, float N x (C + 1) x H x W: the spoiled images, and the region as last channel.

        Args:
            images: N x C x H x W, 0 to 1.
            generator: decides what is random; None: draws that are fixed for each image, whatever its batch.
        """
        return torch.cat(self.degradation(images, generator), dim=1)

    def region(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The pixels that are judged, float N x 1 x H x W of 0 and 1; as `degrade` with an equal generator has it."""
        return self.degradation(images, generator)[1]

    def reconstruct(self, model: nn.Module, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What the model makes of the degraded images, N x C x H x W, 0 to 1, known pixels as they were."""
        degraded = self.degrade(images, generator)
        region = region_of(degraded)
        return images * (1 - region) + model.complete(degraded, generator) * region  # type: ignore[operator]

    def loss(self, model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        """The network's own loss of each image, N; a mean over the values in the region, never a sum."""
        return self.loss_to(model, inputs, inputs)

    def loss_to(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """The loss of each sample, N, fed with `images`, degraded as ever, and to answer `targets`, of their shape."""
        generator = torch.default_generator if model.training else None
        losses: Tensor = model(self.degrade(images, generator), targets)
        return losses

    def encode(self, model: nn.Module, images: Tensor) -> Tensor:
        """The encoder's features of the images, N x ..., degraded as in an evaluation; differentiable."""
        features: Tensor = model.encode(self.degrade(images))  # type: ignore[operator]
        return features


def image_to_image(name: str) -> ImageToImage:
    """The task that `KIND:SOURCE` or `KIND=STRENGTH:SOURCE` names, such as "inpainting=0.25:images:PATH".

    Raises:
        UnknownName: there is no such kind of degradation.
        SettingsError: the strength is no number or out of range, or no source is named.
    """
    front, _, source = name.partition(":")
    kind_name, equals, number = front.partition("=")
    kind = degradations.get(kind_name)
    if not source:
        raise SettingsError(f"task {name!r} names no source of images; write {front}:mnist5k or {front}:images:PATH.")
    try:
        strength = float(number) if equals else None
    except ValueError as error:
        raise SettingsError(f"task {name!r}: {number!r} is not a number; write {kind_name}=0.5:{source}.") from error
    degradation = kind.degradation(kind_name, strength)
    return ImageToImage(name, source, degradation, colour=kind.colour, hides=kind.hides)


@lru_cache(maxsize=4)
def _dataset(task: ImageToImage | ByIdentity[ImageToImage], seed: int) -> Dataset:
    """One object for equal tasks and seeds: whoever shares data out knows it by identity."""
    return (task.item if isinstance(task, ByIdentity) else task)._load(seed)


def names_image_to_image(name: str) -> bool:
    """Whether a task's name begins with a kind of degradation."""
    return name.partition(":")[0].partition("=")[0] in degradations.names()
