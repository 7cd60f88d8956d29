"""Classification: one task for all image data sets and for users' own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedunlearn.data.dataset import Dataset
from fedunlearn.data.sources import load_dataset
from fedunlearn.errors import SettingsError
from fedunlearn.models import networks as known_networks
from fedunlearn.models.image_to_image import ImageToImageNetwork
from fedunlearn.randomness import derive_seed
from fedunlearn.tasks.randomness import isolated_seed


@dataclass(frozen=True)
class ClassificationTask:
    """Learn one label per sample with cross-entropy.

    Args:
        name: what it is asked for by.
        source: the name of a data source, or a callable `seed -> Dataset`.
        networks: names of the networks that fit.
        default_network: the one that is built when none is named.
    """

    name: str
    source: str | Callable[[int], Dataset]
    networks: tuple[str, ...] = ("lenet", "groupnorm-cnn", "resnet20")
    default_network: str = "lenet"

    def dataset(self, seed: int) -> Dataset:
        """The training and test samples, split with `seed` where the source has no split of its own."""
        return load_dataset(self.source, seed)

    def build(self, network: str | None, seed: int, dataset: Dataset) -> nn.Module:
        """The network called `network` (None: the default), initialised from `seed`, for `dataset`'s inputs.

        Raises:
            SettingsError: the task does not offer this network, or the network cannot take these inputs.
        """
        chosen = network or self.default_network
        if chosen not in self.networks and chosen not in known_networks.names():
            raise SettingsError(
                f"task {self.name!r} has no network {chosen!r}; choose one of {', '.join(self.networks)}."
            )
        factory = known_networks.get(chosen)
        shape: tuple[int, int, int] = dataset.input_shape  # type: ignore[assignment]
        with isolated_seed(derive_seed("network", chosen, seed)):
            model = factory(shape, len(dataset.classes))
        if isinstance(model, ImageToImageNetwork):
            raise SettingsError(
                f"network {chosen!r} completes images and names no classes, which task {self.name!r} needs; "
                f"choose one of {', '.join(self.networks)}."
            )
        return model

    def inputs(self, raw: Tensor) -> Tensor:
        """Bytes become floats from 0 to 1; floating-point inputs stay as they are. No normalisation."""
        return raw.to(torch.float32).div_(255) if raw.dtype == torch.uint8 else raw.to(torch.float32)

    def loss(self, model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each sample, N, in nats."""
        return self.loss_from_logits(self.predict(model, inputs), labels)

    def loss_from_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each sample, N, in nats, from N x K logits."""
        return functional.cross_entropy(logits, labels, reduction="none")

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Logits, N x K."""
        logits: Tensor = model(inputs)
        return logits
