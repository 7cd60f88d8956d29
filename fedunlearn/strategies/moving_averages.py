"""Moving averages of parameters in steps that are no ordinary training: models answer with them, so they go along."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from fedunlearn.channels.layout import moving_averages


@contextmanager
def averages_follow(model: nn.Module) -> Iterator[None]:
    """By as much as a parameter moves inside, its moving averages have moved afterwards.

    Whatever became of them inside does not count.
    A diffusion model paints with its averages: a step that the parameters alone take would change no answer.
    """
    averages = moving_averages(model)
    followed = {name: model.get_parameter(name) for name in averages}
    started = {name: parameter.detach().clone() for name, parameter in followed.items()}
    before = {buffer: model.get_buffer(buffer).clone() for buffers in averages.values() for buffer in buffers}
    yield
    with torch.no_grad():
        for name, buffers in averages.items():
            for buffer in buffers:
                model.get_buffer(buffer).copy_(before[buffer] + (followed[name] - started[name]))
