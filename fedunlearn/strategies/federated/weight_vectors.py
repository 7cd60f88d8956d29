"""A model's weights as one vector, for methods that compute with directions and distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedunlearn.channels.layout import Layout
from fedunlearn.strategies.method import ModelState


def weight_names(model: Mapping[str, Tensor], layout: Layout) -> list[str]:
    """The floating-point tensors that are trained, in the model's order: no running statistics, no counters."""
    statistics = {name for group in layout.groups for name in group.buffers}
    return [name for name, tensor in model.items() if tensor.is_floating_point() and name not in statistics]


def flatten(model: Mapping[str, Tensor], names: Sequence[str], dtype: torch.dtype | None = torch.float64) -> Tensor:
    """These tensors, one after the other, as one vector; `dtype` None: of their own type."""
    return torch.cat([model[name].detach().to(dtype or model[name].dtype).reshape(-1) for name in names])


def with_weights(model: Mapping[str, Tensor], names: Sequence[str], vector: Tensor) -> ModelState:
    """A new state dict that has `vector` in these tensors, and the model's own values elsewhere."""
    changed, start = dict(model), 0
    for name in names:
        tensor = model[name]
        values = vector[start : start + tensor.numel()]
        changed[name] = values.reshape(tensor.shape).to(tensor.dtype)
        start += tensor.numel()
    return changed
