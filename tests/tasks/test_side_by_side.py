"""Every layer of several clients against each client's own, bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from fedunlearn.tasks.side_by_side import SideBySide

Layer = Callable[..., Tensor]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_each_is_its_own(layer: Layer, inputs: Tensor, weights: list[Tensor], input_gradient: bool = True) -> None:
    """`inputs` B x K x ..., `weights` K x ...: outputs and all gradients are those of the single clients."""
    size, clients = inputs.shape[:2]
    together = inputs.flatten(0, 1).clone().requires_grad_(input_gradient)
    stacked = [weight.clone().requires_grad_() for weight in weights]
    with SideBySide():
        output = layer(together, *stacked)
    output = output.view(size, clients, *output.shape[1:])
    upstream = random(*output.shape, seed=9)
    (output * upstream).sum().backward()
    for k in range(clients):
        own = inputs[:, k].clone().requires_grad_(input_gradient)
        single = [weight[k].clone().requires_grad_() for weight in weights]
        expected = layer(own, *single)
        (expected * upstream[:, k]).sum().backward()
        assert torch.equal(output[:, k], expected)
        if input_gradient:
            assert together.grad is not None and own.grad is not None
            assert torch.equal(together.grad.view(inputs.shape)[:, k], own.grad)
        for stack, weight in zip(stacked, single, strict=True):
            assert stack.grad is not None and weight.grad is not None
            assert torch.equal(stack.grad[k], weight.grad)


@settings(deadline=None, max_examples=25)
@given(
    clients=st.integers(2, 5),
    size=st.integers(1, 9),
    before=st.sampled_from([1, 3, 8, 16]),
    after=st.sampled_from([4, 16, 10]),
    kernel=st.sampled_from([1, 3]),
    stride=st.integers(1, 2),
    biased=st.booleans(),
    input_gradient=st.booleans(),
)
def test_convolutions(
    clients: int, size: int, before: int, after: int, kernel: int, stride: int, biased: bool, input_gradient: bool
) -> None:
    weights = [random(clients, after, before, kernel, kernel, seed=1)]
    weights += [random(clients, after, seed=2)] if biased else []

    def layer(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return functional.conv2d(inputs, weight, bias, stride=stride, padding=kernel // 2)

    assert_each_is_its_own(layer, random(size, clients, before, 6, 6), weights, input_gradient)


def test_a_convolution_that_has_groups_of_its_own() -> None:
    def layer(inputs: Tensor, weight: Tensor) -> Tensor:
        return functional.conv2d(inputs, weight, padding=1, groups=4)

    assert_each_is_its_own(layer, random(5, 3, 8, 6, 6), [random(3, 8, 2, 3, 3, seed=1)])


def test_convolutions_of_one_dimension() -> None:
    assert_each_is_its_own(functional.conv1d, random(5, 3, 4, 9), [random(3, 6, 4, 3, seed=1), random(3, 6, seed=2)])


@settings(deadline=None, max_examples=25)
@given(
    clients=st.integers(2, 6),
    size=st.integers(1, 33),
    before=st.integers(1, 70),
    after=st.integers(1, 20),
    biased=st.booleans(),
    input_gradient=st.booleans(),
)
def test_linear_layers(clients: int, size: int, before: int, after: int, biased: bool, input_gradient: bool) -> None:
    weights = [random(clients, after, before, seed=1)] + ([random(clients, after, seed=2)] if biased else [])
    assert_each_is_its_own(functional.linear, random(size, clients, before), weights, input_gradient)


@pytest.mark.parametrize("size", [1, 8, 32])
def test_group_norm(size: int) -> None:
    def layer(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return functional.group_norm(inputs, 4, weight, bias)

    assert_each_is_its_own(layer, random(size, 3, 16, 5, 5), [random(3, 16, seed=1), random(3, 16, seed=2)])


def test_weights_of_one_model_are_left_to_torch() -> None:
    inputs, weight = random(4, 3, 6, 6), random(5, 3, 3, 3, seed=1)
    with SideBySide():
        assert torch.equal(functional.conv2d(inputs, weight), torch.conv2d(inputs, weight))
        assert torch.equal(functional.group_norm(inputs, 3), functional.group_norm(inputs, 3))
        assert torch.equal(functional.linear(random(4, 6), random(2, 6)), random(4, 6) @ random(2, 6).T)


def test_what_cannot_be_done_side_by_side_says_so() -> None:
    with SideBySide():
        with pytest.raises(NotImplementedError, match="padding by name"):
            functional.conv2d(random(6, 1, 5, 5), random(2, 4, 1, 3, 3), padding="same")
        with pytest.raises(NotImplementedError, match="more than one dimension"):
            functional.linear(random(6, 7, 5), random(2, 4, 5))
        with pytest.raises(RuntimeError):
            functional.layer_norm(random(6, 5), (5,), random(2, 5), random(2, 5))
