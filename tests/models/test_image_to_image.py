"""The contract of networks that complete images: auto-encoder, VQ-GAN, diffusion, at their smaller size."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch

from fedunlearn.channels.layout import channel_layout
from fedunlearn.errors import SettingsError
from fedunlearn.models import networks
from fedunlearn.models.image_to_image import ImageToImageNetwork, squared_error
from fedunlearn.tasks.image_to_image import NETWORKS
from fedunlearn.tasks.randomness import isolated_seed

SMALL = [name for name in NETWORKS if not name.endswith("-large")]
SHAPES = [(1, 8, 8), (3, 16, 12)]


@lru_cache
def build(name: str, shape: tuple[int, int, int]) -> ImageToImageNetwork:
    with isolated_seed(0):
        model = networks.get(name)(shape, 10)
    assert isinstance(model, ImageToImageNetwork)
    return model.eval()


def example(shape: tuple[int, int, int], count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Images with a hole in the middle, and the images."""
    images = torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))
    region = torch.zeros(count, 1, *shape[1:])
    region[:, :, 3:5, 3:6] = 1
    return torch.cat([images * (1 - region), region], dim=1), images


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", SMALL)
def test_it_completes_and_tells_a_loss_for_each_image_by_itself(name: str, shape: tuple[int, int, int]) -> None:
    model, (degraded, images) = build(name, shape), example(shape)
    with torch.no_grad():
        completed, losses = model(degraded), model(degraded, images)
        assert completed.shape == images.shape and losses.shape == (3,)
        assert bool(((completed >= 0) & (completed <= 1)).all())
        assert torch.equal(model(degraded), completed), "an evaluation draws nothing anew"
        assert torch.allclose(model(degraded[1:2]), completed[1:2], atol=1e-4), "an image's answer is its own"
        assert torch.allclose(model(degraded.flip(0), images.flip(0)), losses.flip(0), atol=1e-4)
        assert not torch.allclose(completed[0], completed[1], atol=1e-6), "the answer depends on what is seen"


@pytest.mark.parametrize("name", SMALL)
def test_training_reaches_every_parameter_and_can_be_repeated(name: str) -> None:
    model, (degraded, images) = build(name, (1, 8, 8)), example((1, 8, 8))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    found = []
    for _ in range(2):
        model.load_state_dict(before)
        with isolated_seed(4):
            losses = model(degraded, images)
        found.append(losses.detach())
    losses.mean().backward()
    lacking = [key for key, one in model.named_parameters() if one.grad is None or not one.grad.isfinite().all()]
    model.eval().load_state_dict(before)
    model.zero_grad()
    assert lacking == []
    assert torch.equal(*found)


@pytest.mark.parametrize("name", SMALL)
def test_channels_are_found_and_the_way_to_pixels_is_the_output(name: str) -> None:
    model, (degraded, _) = build(name, (1, 8, 8)), example((1, 8, 8))
    layout = channel_layout(model, degraded)
    state = model.state_dict()
    assert len(layout.groups) >= 6
    for group in layout.groups:
        assert all(len(state[key]) == group.channels for key in (*group.parameters, *group.buffers)), group
    assert len(state[layout.output[0]]) == 1, "the output layer gives the image's channels"


@pytest.mark.parametrize("name", SMALL)
def test_features_move_the_encoder_and_nothing_else(name: str) -> None:
    model, (degraded, _) = build(name, (1, 8, 8)), example((1, 8, 8))
    model.zero_grad()
    model.encode(degraded).square().sum().backward()
    moved = {key for key, one in model.named_parameters() if one.grad is not None and bool(one.grad.any())}
    model.zero_grad()
    assert moved and not any(part in key for key in moved for part in ("decoder", "up_blocks", "output", "conv_out"))


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("auto-encoder", (1, 7, 9), "at least 8x8"),
        ("vq-gan", (1, 4, 8), "at least 8x8"),
        ("vq-gan", (1, 10, 8), "multiples of 4"),
        ("diffusion", (3, 6, 6), "at least 8x8"),
    ],
)
def test_sizes_that_do_not_fit_are_told(name: str, shape: tuple[int, int, int], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        networks.get(name)(shape, 10)


def test_the_error_is_the_mean_over_the_region_by_hand() -> None:
    images = torch.zeros(2, 3, 2, 2)
    completed = torch.stack([torch.full((3, 2, 2), 0.5), torch.full((3, 2, 2), 0.1)])
    region = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]], [[[1.0, 1.0], [1.0, 1.0]]]])
    assert torch.allclose(squared_error(completed, images, region), torch.tensor([0.25, 0.01]))
