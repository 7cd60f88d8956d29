from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fedunlearn.tasks.channels_last import images_channels_last, norms_channels_first, weights_channels_last


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 1, 4, 5), (0, 3, 4, 5)])
def test_images_keep_their_numbers_and_change_their_order(shape: tuple[int, ...]) -> None:
    images = torch.rand(shape)
    last = images_channels_last(images)
    assert torch.equal(last, images)
    assert last.stride() == (shape[1] * 20, 1, shape[3] * shape[1], shape[1])


def test_a_convolution_goes_on_in_that_order_even_after_one_channel() -> None:
    layer = nn.Conv2d(1, 8, 3)
    with weights_channels_last(layer):
        assert layer(images_channels_last(torch.rand(2, 1, 6, 6))).is_contiguous(memory_format=torch.channels_last)


def test_what_are_no_images_stays_as_it_is() -> None:
    table = torch.rand(3, 4)
    assert images_channels_last(table) is table


def test_weights_lie_where_they_lay_before_with_what_was_learned_inside() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3), nn.Linear(2, 2))
    before = [parameter.data_ptr() for parameter in model.parameters()]
    strides = [parameter.stride() for parameter in model.parameters()]
    with weights_channels_last(model):
        weight = model[1].weight
        assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
        with torch.no_grad():
            weight.fill_(7.0)
    assert [parameter.data_ptr() for parameter in model.parameters()] == before
    assert [parameter.stride() for parameter in model.parameters()] == strides
    assert bool((model[1].weight == 7).all())


def test_weights_come_back_after_an_error() -> None:
    layer = nn.Conv2d(3, 4, 3)
    with pytest.raises(ZeroDivisionError), weights_channels_last(layer):
        1 / 0  # noqa: B018
    assert layer.weight.is_contiguous()


@pytest.mark.parametrize("shape", [(2, 8, 5, 3), (2, 8, 7), (4, 8)])
def test_group_norm_gives_the_same_numbers_and_goes_on_channels_last(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.GroupNorm(2, 8))
    images = images_channels_last(torch.randn(shape)).bfloat16().requires_grad_()
    weights = torch.randn(shape)

    def step() -> list[Tensor]:
        output = model(images)
        return [output, *torch.autograd.grad((output * weights).sum(), [images, *model.parameters()])]

    expected = step()
    with norms_channels_first(model):
        found = step()
    assert len(shape) != 4 or found[0].is_contiguous(memory_format=torch.channels_last)
    for one, another in zip(found, expected, strict=True):
        torch.testing.assert_close(one, another, rtol=2e-2, atol=2e-2)


def test_group_norm_is_itself_again_afterwards_and_somebodys_own_is_left_alone() -> None:
    model = nn.Sequential(nn.GroupNorm(2, 8), nn.GroupNorm(2, 8))
    own = model[1].forward = lambda images: images
    with pytest.raises(ZeroDivisionError), norms_channels_first(model):
        assert "forward" in vars(model[0]) and model[1].forward is own
        1 / 0  # noqa: B018
    assert "forward" not in vars(model[0]) and model[1].forward is own
