from __future__ import annotations

import pytest
import torch
from torchvision import models

from fedunlearn.errors import SettingsError
from fedunlearn.models.torchvision_networks import resnet18, vit, vit_b_16, vit_medium, vit_small


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


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_small_transformer_has_205_thousand_parameters_and_16_patches() -> None:
    network = vit_small((1, 28, 28), 10)
    assert parameters(network) == 205_066
    assert network.encoder.pos_embedding.shape == (1, 17, 64)
    assert network.conv_proj.kernel_size == (7, 7)
    with pytest.raises(SettingsError, match="multiple of 4, and these are 30x30"):
        vit_small((1, 30, 30), 10)


def test_the_large_transformers_have_the_papers_sizes() -> None:
    with torch.device("meta"):
        face, theirs, ours = (
            vit_medium((3, 112, 112), 100),
            models.vit_b_16(num_classes=100),
            vit_b_16((3, 224, 224), 100),
        )
    assert face.encoder.pos_embedding.shape == (1, 197, 512) and len(face.encoder.layers) == 6
    # The authors' 19,157,504 are those of a head without a bias and of a square patch embedding of their own.
    assert abs(parameters(face) - 19_157_504) < 200_000
    assert {n: p.shape for n, p in ours.state_dict().items()} == {n: p.shape for n, p in theirs.state_dict().items()}
