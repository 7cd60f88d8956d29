"""The contract of everything that is registered as a network."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from torch import nn

from fedunlearn.errors import SettingsError
from fedunlearn.models import networks
from fedunlearn.tasks.randomness import isolated_seed

NAMES = ("groupnorm-cnn", "lenet", "resnet18", "resnet20", "vgg11", "vit", "vit-small")


@lru_cache(maxsize=1)
def build(name: str, shape: tuple[int, int, int], classes: int = 7) -> nn.Module:
    with isolated_seed(0):
        return networks.get(name)(shape, classes).eval()


def test_the_networks_of_the_issue_are_there() -> None:
    assert set(NAMES) <= set(networks.names())


@pytest.mark.parametrize(
    ("name", "channels"),
    # VGG-11 takes seconds to fill with random numbers.
    [(name, channels) for name in NAMES for channels in (1, 3) if (name, channels) != ("vgg11", 3)],
)
def test_logits_gradients_and_samples_apart(name: str, channels: int) -> None:
    model = build(name, (channels, 32, 32))
    inputs = torch.rand(2, channels, 32, 32, generator=torch.Generator().manual_seed(1))
    logits = model(inputs)
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    with torch.no_grad():
        assert torch.allclose(model(inputs[1:2]), logits[1:2], atol=1e-4), "a sample's answer is its own"
        assert not torch.allclose(logits[0], logits[1], atol=1e-6), "the answer depends on the picture"
    overwriting = [module for module in model.modules() if getattr(module, "inplace", False)]
    assert [module for module in overwriting if isinstance(module, nn.ReLU)] == []


@pytest.mark.parametrize("name", ["lenet", "groupnorm-cnn", "resnet20"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 13, 9), (1, 28, 28)])
def test_small_networks_take_small_pictures(name: str, shape: tuple[int, int, int]) -> None:
    assert build(name, shape)(torch.rand(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("lenet", (1, 7, 9)), ("groupnorm-cnn", (3, 6, 6)), ("resnet20", (3, 4, 32)), ("resnet18", (3, 28, 28)),
     ("vgg11", (3, 31, 40)), ("vit", (1, 28, 28)), ("vit-small", (1, 6, 6)), ("lenet", (784,))],
)  # fmt: skip
def test_too_small_inputs_are_told(name: str, shape: tuple[int, int, int]) -> None:
    with pytest.raises(SettingsError, match=f"'{name}' needs images of at least"):
        networks.get(name)(shape, 7)
