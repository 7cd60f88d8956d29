"""One client's training before it is done, and whether several are alike enough to be one computation."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fedunlearn.channels.packing import Portion
from fedunlearn.data.dataset import Samples
from fedunlearn.tasks.base import Task
from fedunlearn.tasks.device import Device
from fedunlearn.tasks.training import TrainingSettings, repeated_batches


class LocalTraining(NamedTuple):
    """One client's training, ready to be done: the arguments of `train_locally`, in its order."""

    task: Task
    model: nn.Module
    samples: Samples
    settings: TrainingSettings
    generator: torch.Generator
    portion: Portion | None = None

    def batches(self) -> list[Tensor]:
        """Positions of all batches of all passes, drawn as `train_locally` draws them."""
        settings = self.settings
        return list(repeated_batches(len(self.samples), settings.local_epochs, settings.batch_size, self.generator))

    def key(self, device: Device) -> tuple[Hashable, ...]:
        """Everything that decides which operations a step consists of, and their shapes."""
        settings, portion = self.settings, self.portion
        moving = None if portion is None else tuple((n, None if r is None else len(r)) for n, r in portion.rows.items())
        return (
            device,
            type(self.task),
            self.task.name,
            repr(self.model),
            _parameters(self.model),
            moving,
            tuple(self.samples.inputs.shape[1:]),
            self.samples.inputs.dtype,
            settings.batch_size,
            settings.momentum > 0,
            settings.weight_decay > 0,
            settings.proximal_mu > 0,
        )


def alike(trainings: Sequence[LocalTraining]) -> bool:
    """Whether they differ in nothing but weights, samples and their order, and no model is met twice."""
    first = trainings[0]
    return len({id(one.model) for one in trainings}) == len(trainings) and all(
        one.task == first.task
        and one.settings == first.settings
        and one.portion == first.portion
        and one.samples.inputs.shape[1:] == first.samples.inputs.shape[1:]
        and one.samples.inputs.dtype == first.samples.inputs.dtype
        and _parameters(one.model) == _parameters(first.model)
        for one in trainings[1:]
    )


def _parameters(model: nn.Module) -> Hashable:
    return type(model), tuple((n, p.shape, p.dtype, p.requires_grad) for n, p in model.named_parameters())
