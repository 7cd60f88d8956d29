"""What methods may ask of an image-to-image task beyond its loss: another goal for its outputs, and its features."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class TargetedTask(Protocol):
    """A task whose model can be trained towards images that are not its own inputs."""

    def loss_to(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """The loss of each sample, N, differentiable: fed with `images`, degraded as ever, and to answer `targets`.

        With `targets` equal to `images` it is the task's own loss.

        Args:
            images: float, 0 to 1, N x C x H x W.
            targets: the same shape; what the model should paint where it is judged.
        """
        ...


@runtime_checkable
class EncodingTask(Protocol):
    """A task whose models have an encoder."""

    def encode(self, model: nn.Module, images: Tensor) -> Tensor:
        """Features of degraded images, N x ..., differentiable; nothing but the encoder's parameters shapes them.

        Args:
            images: float, 0 to 1, N x C x H x W; degraded as in an evaluation.
        """
        ...
