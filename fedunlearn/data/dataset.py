"""Samples with labels, and the pair of training and test samples that a task learns from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fedunlearn.errors import DataError

if TYPE_CHECKING:
    from fedunlearn.data.planting import Backdoor


@dataclass(frozen=True)
class Samples:
    """Inputs and their labels, in one order.

    Args:
        inputs: N x ..., uint8 (0 to 255) or floating point.
        labels: N, int64, from 0.

    Raises:
        DataError: the numbers of inputs and labels differ.
    """

    inputs: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.labels):
            raise DataError(f"{len(self.inputs)} inputs came with {len(self.labels)} labels; give one for each input.")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor | np.ndarray | Sequence[int]) -> Samples:
        """The samples at `indices`, in that order, as a copy."""
        positions = torch.tensor(np.asarray(indices, dtype=np.int64))
        return Samples(self.inputs[positions], self.labels[positions])

    def some(self, most: int, generator: torch.Generator) -> Samples:
        """At most `most` of the samples, drawn by `generator`; itself where it has no more."""
        if len(self) <= most:
            return self
        return self.take(torch.randperm(len(self), generator=generator)[:most])

    @staticmethod
    def concat(parts: Sequence[Samples]) -> Samples:
        """All samples of `parts`, one part after the other."""
        if not parts:
            raise DataError("nothing to join: give at least one set of samples.")
        return Samples(torch.cat([p.inputs for p in parts]), torch.cat([p.labels for p in parts]))


@dataclass(frozen=True)
class Dataset:
    """What a task learns from and is tested on.

    Args:
        train: samples that the clients share.
        test: samples that no client trains on.
        classes: class names; the position of a name is its label.
        columns: one value per training sample, for the partition `by:COLUMN`; "label" is always there.
        painted: where images are completed and no label is learned, what a back-door makes of stored images (N x C x
            H x W); None: it gives them its target label.
    """

    train: Samples
    test: Samples
    classes: tuple[str, ...]
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    painted: Callable[[Tensor, Backdoor], Tensor] | None = None

    def __post_init__(self) -> None:
        columns = {"label": self.train.labels.numpy(), **self.columns}
        for name, values in columns.items():
            if len(values) != len(self.train):
                raise DataError(
                    f"column {name!r} has {len(values)} values for {len(self.train)} training samples; "
                    "give one value for each."
                )
        object.__setattr__(self, "columns", columns)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the sample dimension."""
        return tuple(self.train.inputs.shape[1:])
