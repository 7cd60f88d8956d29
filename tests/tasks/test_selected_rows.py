from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from fedunlearn.tasks.channels_last import images_channels_last
from fedunlearn.tasks.selected_rows import SMALLEST_LINEAR, SelectedRows, worthwhile


def gradients(layer: nn.Module, inputs: Tensor, leaves: list[Tensor], weights: Tensor) -> list[Tensor]:
    outputs = layer(inputs)
    return list(torch.autograd.grad((outputs * weights).sum(), [*leaves, inputs]))


def compare(layer: nn.Module, inputs: Tensor, rows: Tensor) -> None:
    """Rows by themselves against all rows of which some are taken."""
    weights = torch.randn(layer(inputs).shape, generator=torch.Generator().manual_seed(2))
    every = gradients(layer, inputs, list(layer.parameters()), weights)
    expected = [*(one.index_select(0, rows) for one in every[:-1]), every[-1]]
    leaves = [one.detach().index_select(0, rows).requires_grad_() for one in layer.parameters()]
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    selected = SelectedRows(layer, rows, leaves[0], leaves[1] if len(leaves) > 1 else None)
    plain = layer(inputs)
    selected.attach()
    assert torch.equal(layer(inputs), plain)
    found = gradients(layer, inputs, leaves, weights)
    selected.detach()
    assert "forward" not in vars(layer)
    for one, another in zip(found, expected, strict=True):
        torch.testing.assert_close(one, another, rtol=1e-4, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    dimensions=st.integers(1, 3),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    bias=st.booleans(),
    last=st.booleans(),
    chosen=st.sets(st.integers(0, 6), min_size=1, max_size=4),
)
def test_a_convolutions_rows_are_those_of_the_whole(
    dimensions: int,
    kernel: int,
    stride: int,
    padding: int,
    dilation: int,
    bias: bool,
    last: bool,
    chosen: set[int],
) -> None:
    torch.manual_seed(1)
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    # In double precision: a gradient adds up some thousand products, and the order of the sum is the library's.
    layer = kind(3, 7, kernel, stride, padding, dilation, bias=bias).double()
    inputs = torch.randn(4, 3, *[8, 7, 6][:dimensions], dtype=torch.float64)
    inputs = (images_channels_last(inputs) if last else inputs).requires_grad_()
    compare(layer, inputs, torch.tensor(sorted(chosen)))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 4)])
def test_a_linear_layers_rows_are_those_of_the_whole(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(1)
    compare(nn.Linear(4, 9, bias=bias), torch.randn(shape).requires_grad_(), torch.tensor([0, 3, 8]))


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 8, 3), nn.Linear(6, 8)])
def test_under_autocast_rows_are_those_of_the_whole(layer: nn.Module) -> None:
    """The layer then computes in bfloat16, and gradients of float32 come of it."""
    rows = torch.tensor([0, 3, 7])
    inputs = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def outputs() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return layer(inputs)

    every = torch.autograd.grad(outputs().square().sum(), [*layer.parameters(), inputs])
    leaves = [parameter.detach()[rows].requires_grad_() for parameter in layer.parameters()]
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    SelectedRows(layer, rows, *leaves).attach()
    found = torch.autograd.grad(outputs().square().sum(), [*leaves, inputs])
    for one, another in zip(found, (every[0][rows], every[1][rows], every[2]), strict=True):
        assert one.dtype == torch.float32
        assert float((one - another).norm()) < 0.01 * float(another.norm())


def test_a_frozen_bias_and_inputs_that_want_no_gradient_get_none() -> None:
    layer = nn.Conv2d(2, 6, 3)
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    leaf = layer.weight[:2].clone().requires_grad_()
    SelectedRows(layer, torch.arange(2), leaf, None).attach()
    layer(torch.randn(3, 2, 5, 5)).sum().backward()
    assert leaf.grad is not None and layer.bias is not None and layer.bias.grad is None


def test_a_layer_that_runs_twice_adds_both() -> None:
    torch.manual_seed(0)
    layer, inputs = nn.Linear(4, 4), torch.randn(3, 4)
    layer(torch.tanh(layer(inputs))).sum().backward()
    expected = layer.weight.grad
    layer.weight.requires_grad_(False)
    leaf = layer.weight.detach()[1:2].clone().requires_grad_()
    SelectedRows(layer, torch.tensor([1]), leaf, None).attach()
    layer(torch.tanh(layer(inputs))).sum().backward()
    torch.testing.assert_close(leaf.grad, expected[1:2])


class Own(nn.Conv2d):
    """Somebody's own; who knows what its forward does."""


def patched() -> nn.Module:
    layer = nn.Conv2d(3, 64, 3)
    layer.forward = lambda inputs: functional.relu(inputs)  # type: ignore[method-assign]
    return layer


@pytest.mark.parametrize(
    ("layer", "rows", "expected"),
    [
        (nn.Conv2d(3, 64, 3), 7, True),
        (nn.Conv2d(3, 64, 3), 32, True),
        (nn.Conv2d(3, 64, 3), 33, False),
        (nn.Conv2d(3, 16, 3), 1, False),
        (nn.Conv1d(3, 32, 3), 4, True),
        (nn.Conv2d(4, 64, 3, groups=2), 7, False),
        (nn.Conv2d(3, 64, 3, padding="same"), 7, False),
        (nn.Conv2d(3, 64, 3, padding=1, padding_mode="reflect"), 7, False),
        (nn.ConvTranspose2d(3, 64, 3), 7, False),
        (Own(3, 64, 3), 7, False),
        (patched(), 7, False),
        (nn.Linear(SMALLEST_LINEAR // 64, 64), 32, True),
        (nn.Linear(SMALLEST_LINEAR // 64, 64), 33, False),
        (nn.Linear(32, 64), 1, False),
        (nn.GroupNorm(8, 64), 7, False),
    ],
)
def test_which_layers_it_is_worthwhile_for(layer: nn.Module, rows: int, expected: bool) -> None:
    assert worthwhile(layer, rows) is expected
