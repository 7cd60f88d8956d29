"""Layers of several clients side by side in one batch, bit for bit what each client's own layer gives.

A batch holds B samples of each of K clients: sample b of client k is row b * K + k. What treats every sample by itself
(an activation, pooling, flattening, a loss per sample) needs no change. A layer with weights gets those of all clients,
K in front: a convolution becomes one with K groups, a linear layer a batched product, GroupNorm one with K times the
groups, none of which moves a number in memory.

Those are other kernels than a single client's, and may add up in another order. Each part of a layer (output, gradient
of the input, gradient of the weight) is therefore computed for all clients at once only where that gives the very bits
of the single clients, which is tried out once for each shape, and client by client elsewhere. The order of additions
depends on shapes and on where in memory a tensor begins, not on values: what agrees on random numbers agrees on all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Shape = tuple[int, ...]

FEW = 2000
"""Numbers that have to agree before a kernel is taken for exact."""


class SideBySide(TorchFunctionMode):
    """Inside, convolutions, linear layers and GroupNorm whose weights are K clients' treat a batch of K clients.

    A layer that cannot raises NotImplementedError; other functions that use such weights fail by their shape.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _REPLACED.get(func, func)(*args, **(kwargs or {}))


class Convolving(NamedTuple):
    """How a convolution goes over its input, one number for each of its dimensions."""

    stride: Shape
    padding: Shape
    dilation: Shape
    groups: int


class AtOnce(NamedTuple):
    """Which parts of a layer may be computed for all clients at once."""

    output: bool
    input_gradient: bool
    weight_gradient: bool


def _convolution(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def convolution(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | Shape = 1,
        padding: int | Shape | str = 0,
        dilation: int | Shape = 1,
        groups: int = 1,
    ) -> Tensor:
        if weight.dim() == input.dim():
            return function(input, weight, bias, stride, padding, dilation, groups)
        dimensions = weight.dim() - 3
        if isinstance(padding, str) or input.dim() != dimensions + 2:
            raise NotImplementedError("a convolution with padding by name, or of one sample without a batch")
        how = Convolving(_sizes(stride, dimensions), _sizes(padding, dimensions), _sizes(dilation, dimensions), groups)
        apart = input.reshape(-1, len(weight), *input.shape[1:])
        output: Tensor = _Convolution.apply(apart, weight, bias, how)
        return output.flatten(0, 1)

    return convolution


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if weight.dim() == 2:
        return functional.linear(input, weight, bias)
    if input.dim() != 2:
        raise NotImplementedError("a linear layer over more than one dimension")
    apart = input.reshape(-1, len(weight), input.shape[1]).transpose(0, 1)
    output: Tensor = _Linear.apply(apart, weight, bias)
    return output.transpose(0, 1).flatten(0, 1)


def _group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    if weight is None or bias is None or weight.dim() == 1:
        return functional.group_norm(input, num_groups, weight, bias, eps)
    clients = len(weight)
    # Each group is normalised by itself.
    apart = input.reshape(-1, clients * input.shape[1], *input.shape[2:])
    normal = functional.group_norm(apart, clients * num_groups, weight.flatten(), bias.flatten(), eps)
    return normal.view(input.shape)


_REPLACED: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.conv1d: _convolution(torch.conv1d),
    torch.conv2d: _convolution(torch.conv2d),
    torch.conv3d: _convolution(torch.conv3d),
    functional.linear: _linear,
    functional.group_norm: _group_norm,
}


class _Convolution(torch.autograd.Function):
    """Input B x K x C x ..., weight K x O x C/groups x ..., bias K x O or None; output B x K x O x ..."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, how: Convolving) -> Tensor:
        at_once = _exact_convolution(tuple(input.shape), tuple(weight.shape), bias is not None, how)
        ctx.save_for_backward(input, weight)
        ctx.how, ctx.at_once, ctx.biased = how, at_once, bias is not None
        if at_once.output:
            return _grouped(input, weight, bias, how)
        return torch.stack(
            [_single(_own(input[:, k]), _own(weight[k]), _of(bias, k), how) for k in range(len(weight))], dim=1
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,) = gradients
        input, weight = ctx.saved_tensors
        wanted = (*ctx.needs_input_grad[:2], ctx.biased and ctx.needs_input_grad[2])
        at_once = (ctx.at_once.input_gradient, ctx.at_once.weight_gradient, ctx.at_once.weight_gradient)
        found: list[Tensor | None] = [None, None, None]
        mask = [want and together for want, together in zip(wanted, at_once, strict=True)]
        if any(mask):
            found = _grouped_gradients(gradient, input, weight, ctx.biased, ctx.how, mask)
        mask = [want and not together for want, together in zip(wanted, at_once, strict=True)]
        if any(mask):
            parts = [
                _gradients(_own(gradient[:, k]), _own(input[:, k]), _own(weight[k]), ctx.biased, ctx.how, mask)
                for k in range(len(weight))
            ]
            for index, axis in enumerate((1, 0, 0)):
                if mask[index]:
                    found[index] = torch.stack([part[index] for part in parts], dim=axis)
        return *found, None


class _Linear(torch.autograd.Function):
    """Input K x B x I, weight K x O x I, bias K x O or None; output K x B x O."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        input = input.contiguous()
        at_once = _exact_linear(tuple(input.shape), tuple(weight.shape), bias is not None)
        ctx.save_for_backward(input, weight)
        ctx.at_once = at_once
        if at_once.output:
            return _batched(input, weight, bias)
        return torch.stack(
            [functional.linear(_own(input[k]), _own(weight[k]), _of(bias, k)) for k in range(len(weight))]
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        gradient = gradients[0].contiguous()
        input, weight = ctx.saved_tensors
        of_input = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_input = _products(gradient, weight, ctx.at_once.input_gradient)
        if ctx.needs_input_grad[1]:
            of_weight = _products(gradient.transpose(1, 2), input, ctx.at_once.weight_gradient)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum(1)
        return of_input, of_weight, of_bias


def _single(input: Tensor, weight: Tensor, bias: Tensor | None, how: Convolving) -> Tensor:
    function = (torch.conv1d, torch.conv2d, torch.conv3d)[weight.dim() - 3]
    return function(input, weight, bias, *how)


def _gradients(
    gradient: Tensor, input: Tensor, weight: Tensor, biased: bool, how: Convolving, mask: Sequence[bool]
) -> list[Any]:
    """Gradients of a convolution's input, weight and bias; `mask` says which are wanted."""
    found: list[Any] = torch.ops.aten.convolution_backward(
        gradient,
        input,
        weight,
        [weight.shape[0]] if biased else None,
        how.stride,
        how.padding,
        how.dilation,
        False,
        [0] * len(how.stride),
        how.groups,
        mask,
    )
    return found


def _grouped(input: Tensor, weight: Tensor, bias: Tensor | None, how: Convolving) -> Tensor:
    clients = len(weight)
    own = how._replace(groups=clients * how.groups)
    output = _single(input.flatten(1, 2), weight.flatten(0, 1), None if bias is None else bias.flatten(), own)
    return output.view(len(input), clients, weight.shape[1], *output.shape[2:])


def _grouped_gradients(
    gradient: Tensor, input: Tensor, weight: Tensor, biased: bool, how: Convolving, mask: Sequence[bool]
) -> list[Any]:
    own = how._replace(groups=len(weight) * how.groups)
    found = _gradients(gradient.flatten(1, 2), input.flatten(1, 2), weight.flatten(0, 1), biased, own, mask)
    shapes = (input.shape, weight.shape, weight.shape[:2])
    return [one.view(shape) if want else None for one, shape, want in zip(found, shapes, mask, strict=True)]


def _batched(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    transposed = weight.transpose(1, 2)
    return torch.bmm(input, transposed) if bias is None else torch.baddbmm(bias[:, None], input, transposed)


def _products(left: Tensor, right: Tensor, at_once: bool) -> Tensor:
    """The matrix product of each client, K x N x M."""
    if at_once:
        return torch.bmm(left, right)
    return torch.stack([_own(a).mm(_own(b)) for a, b in zip(left, right, strict=True)])


@lru_cache(maxsize=4096)
def _exact_convolution(input_shape: Shape, weight_shape: Shape, biased: bool, how: Convolving) -> AtOnce:
    """Where K groups give the bits of K convolutions."""
    return _every(
        _exact_convolution_once(seed, input_shape, weight_shape, biased, how) for seed in _seeds(weight_shape)
    )


def _exact_convolution_once(
    seed: int, input_shape: Shape, weight_shape: Shape, biased: bool, how: Convolving
) -> AtOnce:
    input, weight, bias = _random(seed, input_shape, weight_shape, weight_shape[:2] if biased else None)
    output = _grouped(input, weight, bias, how)
    (gradient,) = _random(seed, tuple(output.shape))
    of_input, of_weight, of_bias = _grouped_gradients(gradient, input, weight, biased, how, [True, True, biased])
    exact = [True, True, True]
    for k in range(len(weight)):
        own, up, of_own = _own(input[:, k]), _own(gradient[:, k]), _own(weight[k])
        exact[0] = exact[0] and torch.equal(output[:, k], _single(own, of_own, _of(bias, k), how))
        alone = _gradients(up, own, of_own, biased, how, [True, True, biased])
        exact[1] = exact[1] and torch.equal(of_input[:, k], alone[0])
        # Of a first layer nobody wants the gradient of the input: another kernel may then find that of the weight.
        for found in (alone, _gradients(up, own, of_own, biased, how, [False, True, biased])):
            exact[2] = exact[2] and torch.equal(of_weight[k], found[1])
            exact[2] = exact[2] and (not biased or torch.equal(of_bias[k], found[2]))
    return AtOnce(*exact)


@lru_cache(maxsize=4096)
def _exact_linear(input_shape: Shape, weight_shape: Shape, biased: bool) -> AtOnce:
    """Where batched products give the bits of single ones."""
    return _every(_exact_linear_once(seed, input_shape, weight_shape, biased) for seed in _seeds(input_shape))


def _exact_linear_once(seed: int, input_shape: Shape, weight_shape: Shape, biased: bool) -> AtOnce:
    input, weight, bias = _random(seed, input_shape, weight_shape, weight_shape[:2] if biased else None)
    (gradient,) = _random(seed, (*input_shape[:2], weight_shape[1]))
    single = torch.stack([functional.linear(_own(input[k]), _own(weight[k]), _of(bias, k)) for k in range(len(weight))])
    transposed = gradient.transpose(1, 2)
    return AtOnce(
        torch.equal(_batched(input, weight, bias), single),
        torch.equal(_products(gradient, weight, True), _products(gradient, weight, False)),
        torch.equal(_products(transposed, input, True), _products(transposed, input, False)),
    )


def _seeds(shape: Shape) -> range:
    """For how many random numbers a shape is tried: a few sums may agree by chance although they add up otherwise."""
    return range(1 + FEW // math.prod(shape))


def _every(found: Iterable[AtOnce]) -> AtOnce:
    return AtOnce(*map(all, zip(*found, strict=True)))


def _random(seed: int, *shapes: Shape | None) -> list[Any]:
    generator = torch.Generator().manual_seed(seed)
    return [None if shape is None else torch.randn(shape, generator=generator) for shape in shapes]


def _own(part: Tensor) -> Tensor:
    """A client's part in memory of its own, in the layout that it has: kernels look at where a tensor begins."""
    return part.clone(memory_format=torch.preserve_format)


def _of(tensor: Tensor | None, client: int) -> Tensor | None:
    return None if tensor is None else _own(tensor[client])


def _sizes(value: int | Shape, dimensions: int) -> Shape:
    return (value,) * dimensions if isinstance(value, int) else tuple(value)
