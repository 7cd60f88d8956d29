"""What a task is: data, networks, and a loss per sample, on which everything else stands.

What a task answers with is said by the protocol it satisfies: class scores (`LogitsTask`) or images
(`ImageToImageTask`). Whatever needs one of them asks for it; everything else makes do with the loss.
"""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from fedunlearn.data.dataset import Dataset
from fedunlearn.errors import SettingsError


@runtime_checkable
class Task(Protocol):
    """What is learned.

    `ClassificationTask` is the implementation for images and for anything else with N x K logits,
    `ImageToImage` the one for images that are completed; whoever writes another one needs exactly these members.
    """

    @property
    def name(self) -> str:
        """The name it is asked for by."""
        ...

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the networks that fit."""
        ...

    @property
    def default_network(self) -> str:
        """The one that is built when none is named."""
        ...

    def dataset(self, seed: int) -> Dataset:
        """Training and test samples; `seed` decides the split where the data has none of its own."""
        ...

    def build(self, network: str | None, seed: int, dataset: Dataset) -> nn.Module:
        """A fresh model for `dataset`: equal seeds give equal weights; global random state is untouched."""
        ...

    def inputs(self, raw: Tensor) -> Tensor:
        """What the loss is computed from (float, N x ...) for stored inputs (N x ...)."""
        ...

    def loss(self, model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        """The loss of each sample, N, differentiable."""
        ...


@runtime_checkable
class LogitsTask(Task, Protocol):
    """A task that answers with scores of classes: it has right and wrong answers, and so an accuracy."""

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Logits, N x K."""
        ...


def with_classes(task: Task) -> LogitsTask:
    """The task, known to answer with classes. Raises SettingsError for one that does not."""
    if not isinstance(task, LogitsTask):
        raise SettingsError(
            f"scores of classes are needed, and task {task.name!r} answers with none; "
            "choose a method, metric or option that makes do with its loss."
        )
    return task


def loss_of_guessing(task: Task, classes: int) -> float:
    """The loss of a model that holds every class for equally likely, log K, in nats.

    Raises:
        SettingsError: the task answers with no classes, of which one could be guessed.
    """
    with_classes(task)
    return math.log(classes)


@runtime_checkable
class LossFromLogits(LogitsTask, Protocol):
    """A task whose loss follows from its logits, so that evaluation needs one forward pass and not two."""

    def loss_from_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each sample, N, from N x K logits."""
        ...


@runtime_checkable
class ImageToImageTask(Task, Protocol):
    """A task that answers with images: a part of each is hidden or spoiled, and the model brings it back.

    Labels stay with the samples, for partitions and scopes; the model never sees them.
    """

    def degrade(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What the model is fed, float N x (C + 1) x H x W: the spoiled images, and the region as last channel.

        Args:
            images: N x C x H x W, 0 to 1.
            generator: decides what is random; None: draws that are fixed for each image, whatever its batch.
        """
        ...

    def region(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The pixels that are judged, float N x 1 x H x W of 0 and 1; as `degrade` with an equal generator has it."""
        ...

    def reconstruct(self, model: nn.Module, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What the model makes of the degraded images, N x C x H x W, 0 to 1, known pixels as they were."""
        ...
