"""Convolutions and linear layers that compute the gradient of their selected rows, and of no other.

The gradient of a weight is the most expensive third of a training step. Of its rows, each is a function of one output
channel's gradient alone, so that the others can be left out before the product instead of after it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
LARGEST_SHARE = 0.5
"""Of the rows. The three bounds are where it was measured to pay (benchmarks/results/recovery-round.md)."""
BLOCK = 16
"""Convolutions compute so many output channels together; a block that holds one selected channel costs the whole."""
SMALLEST_LINEAR = 1 << 17
"""Weights; a smaller layer takes less time than a function of our own has overhead."""


def worthwhile(module: nn.Module, rows: int) -> bool:
    """Whether `rows` of the module's outputs are better computed by themselves, and can be."""
    if "forward" in vars(module):
        return False  # somebody has put another forward in its place
    if type(module) is nn.Linear:
        return module.weight.numel() >= SMALLEST_LINEAR and rows <= LARGEST_SHARE * module.out_features
    if isinstance(module, CONVOLUTIONS) and type(module) in CONVOLUTIONS:
        plain = module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
        return plain and math.ceil(rows / BLOCK) <= LARGEST_SHARE * math.ceil(module.out_channels / BLOCK)
    return False


class SelectedRows:
    """A layer whose backward pass gives leaves of selected rows their gradient, between `attach` and `detach`.

    Args:
        module: a convolution or a linear layer; its own parameters are used in the forward pass, and get no gradient.
        rows: indices of the selected outputs.
        weight: leaf of the weight's rows.
        bias: leaf of the bias's rows; None where the bias is frozen or there is none.
    """

    def __init__(self, module: nn.Module, rows: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        self._module = module
        self._rows = rows
        self._weight = weight
        self._bias = bias

    def attach(self) -> None:
        """Put this in the place of the module's own forward."""
        self._module.forward = self._forward  # type: ignore[method-assign]

    def detach(self) -> None:
        """Give the module its own forward back."""
        vars(self._module).pop("forward", None)

    def _forward(self, inputs: Tensor) -> Tensor:
        module = self._module
        own = (inputs, self._weight, self._bias, module.weight, module.bias, self._rows)
        if isinstance(module, nn.Linear):
            result: Tensor = _LinearRows.apply(*own)
        else:
            result = _ConvolutionRows.apply(*own, _How(module.stride, module.padding, module.dilation))  # type: ignore[arg-type]
        return result


class _How(NamedTuple):
    """How a convolution goes over its input, one number for each of its dimensions."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]


class _LinearRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, leaf: Tensor, leaf_bias: Tensor | None, *own: Any) -> Tensor:
        weight, bias, rows = own
        ctx.save_for_backward(inputs, weight, rows)
        return functional.linear(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        inputs, weight, rows = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, len(weight))
        inputs, weight = _alike(gradient, inputs, weight)
        selected = gradient.index_select(1, rows)
        of_inputs = gradient.mm(weight).view(inputs.shape) if ctx.needs_input_grad[0] else None
        of_leaf = selected.t().mm(inputs.reshape(-1, inputs.shape[-1]))
        of_bias = selected.sum(0) if ctx.needs_input_grad[2] else None
        return of_inputs, of_leaf, of_bias, None, None, None


class _ConvolutionRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, leaf: Tensor, leaf_bias: Tensor | None, *own: Any) -> Tensor:
        weight, bias, rows, how = own
        ctx.save_for_backward(inputs, leaf, weight, rows)
        ctx.how = how
        convolution = (functional.conv1d, functional.conv2d, functional.conv3d)[weight.dim() - 3]
        return convolution(inputs, weight, bias, *how)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        inputs, leaf, weight, rows = ctx.saved_tensors
        inputs, leaf, weight = _alike(gradients[0], inputs, leaf, weight)
        of_inputs = None
        if ctx.needs_input_grad[0]:
            of_inputs = _gradients(gradients[0], inputs, weight, ctx.how, [True, False, False])[0]
        selected = _of_channels(gradients[0], rows)
        of_leaf = _gradients(selected, inputs, leaf, ctx.how, [False, True, False])[1]
        of_bias = selected.flatten(2).sum((0, 2)) if ctx.needs_input_grad[2] else None
        return of_inputs, of_leaf, of_bias, None, None, None, None


def _alike(gradient: Tensor, *tensors: Tensor) -> list[Tensor]:
    """The tensors in the precision of the gradient, in which the layer computed under autocast."""
    return [tensor.to(gradient.dtype) for tensor in tensors]


def _gradients(
    gradient: Tensor, inputs: Tensor, weight: Tensor, how: _How, mask: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    found: tuple[Tensor | None, Tensor | None, Tensor | None] = torch.ops.aten.convolution_backward(
        gradient, inputs, weight, None, *how, False, [0] * len(how.stride), 1, mask
    )
    return found


def _of_channels(gradient: Tensor, rows: Tensor) -> Tensor:
    """The gradients of some channels, N x rows x ..."""
    last = gradient.movedim(1, -1)
    if not last.is_contiguous():
        return gradient.index_select(1, rows)
    # Of a matrix, columns are taken several times as quickly.
    flat = last.reshape(-1, last.shape[-1]).index_select(1, rows)
    return flat.view(*last.shape[:-1], len(rows)).movedim(-1, 1)
