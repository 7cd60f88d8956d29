"""Images with their channels last in memory, which convolutions and above all pooling take more quickly on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional


@contextmanager
def weights_channels_last(model: nn.Module) -> Iterator[None]:
    """Inside, weights of two-dimensional convolutions lie channels last; afterwards where and as they lay before."""
    moved: list[tuple[Tensor, Tensor]] = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.weight.device.type == "cpu":
            moved.append((module.weight, module.weight.data))
            module.weight.data = images_channels_last(module.weight.data)
    try:
        yield
    finally:
        for parameter, before in moved:
            parameter.data = before.copy_(parameter.data)


@contextmanager
def norms_channels_first(model: nn.Module) -> Iterator[None]:
    """Inside, GroupNorm of bfloat16 images has their channels first, and gives them back last.

    Channels last it takes torch several times as long, which is half a step of a residual network.
    """
    norms = [one for one in model.modules() if type(one) is nn.GroupNorm and "forward" not in vars(one)]
    for norm in norms:
        norm.forward = partial(_normalised, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            vars(norm).pop("forward", None)


def _normalised(norm: nn.GroupNorm, images: Tensor) -> Tensor:
    groups = (norm.num_groups, norm.weight, norm.bias, norm.eps)
    if images.dim() != 4 or images.device.type != "cpu":
        return functional.group_norm(images, *groups)
    return functional.group_norm(images.contiguous(), *groups).contiguous(memory_format=torch.channels_last)


def images_channels_last(images: Tensor) -> Tensor:
    """The same numbers, N x C x H x W, with the channels last in memory; anything else as it is."""
    if images.dim() != 4 or images.device.type != "cpu":
        return images
    # Of one channel, torch would call the present order good enough, and then go on in it.
    channels, height, width = images.shape[1:]
    strides = (channels * height * width, 1, width * channels, channels)
    return torch.empty_strided(images.shape, strides, dtype=images.dtype).copy_(images)
