"""The channels of a task's model: found by calling it with what the task feeds it."""

from __future__ import annotations

from torch import Tensor, nn

from fedunlearn.channels.layout import Layout, channel_layout
from fedunlearn.data.dataset import Dataset
from fedunlearn.tasks.base import ImageToImageTask, Task


def layout_of(task: Task, model: nn.Module, dataset: Dataset) -> Layout:
    """The channels of `model`. Raises NoChannels when it has none besides its output layer."""
    return channel_layout(model, fed(task, task.inputs(dataset.test.inputs[:2])))


def fed(task: Task, inputs: Tensor) -> Tensor:
    """What the model is called with for the task's inputs: themselves, or what a degradation leaves of images."""
    return task.degrade(inputs) if isinstance(task, ImageToImageTask) else inputs
