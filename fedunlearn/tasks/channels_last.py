"""Images with their channels last in memory, which convolutions and above all pooling take more quickly on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from fedunlearn.data.dataset import Samples
from fedunlearn.tasks.base import Task

# Models that were looked at, and whether they take their images so.
_seen: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def takes_channels_last(task: Task, model: nn.Module, samples: Samples) -> bool:
    """Whether `model` is for images and answers alike when their channels, and those of its weights, come last.

    A model that looks at how its tensors lie (one that calls `view` behind a convolution, say) does not.

    Args:
        samples: one at least, such as the model is used with.
    """
    if model not in _seen:
        _seen[model] = _answers_alike(task, model, samples)
    return _seen[model]


@torch.no_grad()
def _answers_alike(task: Task, model: nn.Module, samples: Samples) -> bool:
    inputs = task.inputs(samples.inputs[:2])
    if inputs.dim() != 4 or not any(_has_image_weights(module) for module in model.modules()):
        return False
    modes = {module: module.training for module in model.modules()}
    # Nothing is learned and nothing drawn.
    model.eval()
    try:
        expected = task.predict(model, inputs)
        with weights_channels_last(model):
            return torch.allclose(expected, task.predict(model, images_channels_last(inputs)), rtol=1e-3, atol=1e-5)
    except RuntimeError:
        return False
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def weights_channels_last(model: nn.Module) -> Iterator[None]:
    """Inside, weights of two-dimensional convolutions lie channels last; afterwards where and as they lay before."""
    moved: list[tuple[Tensor, Tensor]] = []
    for module in model.modules():
        if _has_image_weights(module):
            moved.append((module.weight, module.weight.data))
            module.weight.data = images_channels_last(module.weight.data)
    try:
        yield
    finally:
        for parameter, before in moved:
            parameter.data = before.copy_(parameter.data)


def images_channels_last(images: Tensor) -> Tensor:
    """The same numbers, N x C x H x W, with the channels last in memory; anything else as it is."""
    if images.dim() != 4 or images.device.type != "cpu":
        return images
    # Of one channel, torch would call the present order good enough, and then go on in it.
    channels, height, width = images.shape[1:]
    strides = (channels * height * width, 1, width * channels, channels)
    if channels == 1 and images.is_contiguous():
        return images.as_strided(images.shape, strides)
    return torch.empty_strided(images.shape, strides, dtype=images.dtype).copy_(images)


def _has_image_weights(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.weight.device.type == "cpu"
