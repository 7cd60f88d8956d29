from __future__ import annotations

import pytest
import torch
from torchvision import models

from fedunlearn.errors import SettingsError
from fedunlearn.models.torchvision_networks import resnet18, vit


def test_resnet18_for_colour_is_torchvisions_own() -> None:
    theirs = models.resnet18(num_classes=5)
    ours = resnet18((3, 32, 32), 5)
    ours.load_state_dict(theirs.state_dict())
    inputs = torch.rand(2, 3, 32, 32)
    assert torch.equal(ours.eval()(inputs), theirs.eval()(inputs))


def test_the_transformer_sees_64_patches_and_the_class_token() -> None:
    for side in (32, 64):
        network = vit((3, side, side), 5)
        assert network.encoder.pos_embedding.shape == (1, 65, 128)
        assert len(network.encoder.layers) == 6


@pytest.mark.parametrize(("shape", "said"), [((3, 32, 40), "32x40"), ((3, 36, 36), "36x36")])
def test_the_transformer_needs_squares_that_divide(shape: tuple[int, int, int], said: str) -> None:
    with pytest.raises(SettingsError, match=f"side that is a multiple of 8, and these are {said}"):
        vit(shape, 5)
