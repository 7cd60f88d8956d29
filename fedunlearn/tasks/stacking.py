"""Whether the models of several clients can be one computation, as `torch.func.vmap` judges it."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from fedunlearn.data.dataset import Samples
from fedunlearn.tasks.base import Task


class LossOfModel(nn.Module):
    """A task's losses as a function of a model's parameters, whatever the task does with the model."""

    def __init__(self, task: Task, model: nn.Module) -> None:
        super().__init__()
        self._task = task
        self.model = model

    def forward(self, raw: Tensor, labels: Tensor) -> Tensor:
        """The loss of each sample, N."""
        return self._task.loss(self.model, self._task.inputs(raw), labels)


def not_stackable(task: Task, model: nn.Module, samples: Samples) -> str | None:
    """Why several such models cannot be one computation; None when they can. The model is not changed."""
    model = copy.deepcopy(model).train()
    loss = LossOfModel(task, model)
    raw, labels = (torch.stack([tensor[:2]] * 2) for tensor in (samples.inputs, samples.labels))
    values = {f"model.{name}": torch.stack([p.detach()] * 2) for name, p in model.named_parameters()}
    before = {name: (buffer, buffer.clone()) for name, buffer in model.named_buffers()}

    def losses(values: dict[str, Tensor], raw: Tensor, labels: Tensor) -> Tensor:
        result: Tensor = functional_call(loss, values, (raw, labels))
        return result

    try:
        with torch.no_grad(), warnings.catch_warnings():
            # What has no batching rule makes stacking slow, and that is measured before it is done.
            warnings.filterwarnings("ignore", message="There is a performance drop")
            vmap(losses, randomness="error")(values, raw, labels)
    except Exception as error:  # whatever a model of the user's raises
        return f"the model cannot be stacked ({first_line(error)})"
    for name, buffer in model.named_buffers():
        same, value = before[name]
        if buffer is not same or not torch.equal(buffer, value):
            return f"the model changes its buffer {name!r} in training"
    return None


def first_line(error: Exception) -> str:
    """The first line of what an error says, or its name; 200 characters at most."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
