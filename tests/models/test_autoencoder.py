from __future__ import annotations

import pytest
import torch

from fedunlearn.models import networks
from fedunlearn.models.autoencoder import AutoEncoder


def parameters(name: str) -> int:
    return sum(one.numel() for one in networks.get(name)((3, 32, 32), 10).parameters())


def test_its_sizes() -> None:
    assert 150_000 < parameters("auto-encoder") < 300_000
    assert parameters("auto-encoder-large") > 3 * parameters("auto-encoder")


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8), (3, 13, 9)])
def test_an_image_comes_out_as_large_as_it_went_in(shape: tuple[int, int, int]) -> None:
    model = AutoEncoder(shape, 10)
    degraded = torch.rand(2, shape[0] + 1, *shape[1:])
    assert model(degraded).shape == (2, *shape)
    assert model.encode(degraded).shape[1] == 128


def test_there_is_no_way_around_the_bottleneck() -> None:
    model = AutoEncoder((1, 16, 16), 10).eval()
    seen = torch.rand(1, 2, 16, 16)
    cut = model.encoder[-1].register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    with torch.no_grad():
        same = torch.equal(model(seen), model(torch.zeros_like(seen)))
    cut.remove()
    assert same
