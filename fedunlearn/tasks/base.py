"""What a task is: data, networks, and a loss per sample, on which everything else stands."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from fedunlearn.data.dataset import Dataset


@runtime_checkable
class Task(Protocol):
    """What is learned.

    `ClassificationTask` is the implementation for images and for anything else with N x K logits; whoever
    writes another one needs exactly these members.
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
        """What the model is fed (float, N x ...) for stored inputs (N x ...)."""
        ...

    def loss(self, model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        """The loss of each sample, N, differentiable."""
        ...

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Logits, N x K."""
        ...


@runtime_checkable
class LogitsTask(Task, Protocol):
    """A task whose loss follows from its logits, so that evaluation needs one forward pass and not two."""

    def loss_from_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each sample, N, from N x K logits."""
        ...
