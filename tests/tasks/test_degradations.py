from __future__ import annotations

import pytest
import torch

from fedunlearn.errors import SettingsError
from fedunlearn.tasks.degradations import (
    BorderHidden,
    CentreHidden,
    ColourRemoved,
    Noise,
    PatchesHidden,
    degradations,
)

IMAGE = torch.arange(16.0).reshape(1, 1, 4, 4) / 16
CENTRE = torch.tensor([[0.0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]])


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_centre_is_hidden() -> None:
    spoiled, region = CentreHidden(0.5)(IMAGE, None)
    assert torch.equal(region[0, 0], CENTRE)
    assert torch.equal(spoiled, IMAGE * (1 - CENTRE))


def test_the_border_is_hidden() -> None:
    spoiled, region = BorderHidden(0.5)(IMAGE, None)
    assert torch.equal(region[0, 0], 1 - CENTRE)
    assert torch.equal(spoiled, IMAGE * CENTRE)


def test_the_hidden_share_of_a_side_is_rounded_to_pixels() -> None:
    for side, size in ((0.25, 8), (0.5, 16)):
        _, region = CentreHidden(side)(torch.rand(2, 3, 32, 32), None)
        start = (32 - size) // 2
        expected = torch.zeros(32, 32)
        expected[start : start + size, start : start + size] = 1
        assert torch.equal(region, expected.expand(2, 1, 32, 32))


@pytest.mark.parametrize("kind", [CentreHidden, BorderHidden])
@pytest.mark.parametrize("side", [0.01, 0.99])
def test_something_is_seen_and_something_is_judged(kind, side: float) -> None:
    region = kind(side)(torch.rand(2, 1, 8, 8), None)[1]
    assert 0 < float(region[0].sum()) < 64


def test_patches_are_hidden_whole_each_by_its_own_draw() -> None:
    images = torch.rand(200, 1, 28, 28)
    spoiled, region = PatchesHidden(0.3)(images, drawn())
    patches = region.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
    assert torch.equal(patches.amin(dim=-1), patches.amax(dim=-1)), "a patch is hidden as a whole or not at all"
    assert abs(float(region.mean()) - 0.3) < 0.02
    assert torch.equal(spoiled, images * (1 - region))
    assert not torch.equal(region[0], region[1])


def test_one_patch_at_least_is_hidden() -> None:
    _, region = PatchesHidden(0.001)(torch.rand(50, 1, 8, 8), drawn())
    assert torch.equal(region.flatten(1).sum(dim=1), torch.ones(50))


def test_noise_has_its_deviation_and_everything_is_judged() -> None:
    images = torch.full((50, 1, 16, 16), 0.5)
    spoiled, region = Noise(0.1)(images, drawn())
    assert torch.equal(region, torch.ones(50, 1, 16, 16))
    assert abs(float((spoiled - images).std()) - 0.1) < 0.003
    assert bool(((Noise(5.0)(images, drawn())[0] - 0.5).abs() <= 0.5).all())


def test_colour_is_removed_as_luminance() -> None:
    image = torch.tensor([1.0, 0.5, 0.25]).reshape(1, 3, 1, 1)
    spoiled, region = ColourRemoved()(image, None)
    assert torch.allclose(spoiled.flatten(), torch.full((3,), 0.299 + 0.2935 + 0.0285))
    assert torch.equal(region, torch.ones(1, 1, 1, 1))


@pytest.mark.parametrize("degradation", [PatchesHidden(0.5), Noise(0.2)])
def test_without_a_generator_an_image_has_draws_of_its_own(degradation) -> None:
    """Whatever its batch and its place in it: a membership attack compares samples that are evaluated apart."""
    images = (torch.rand(20, 1, 8, 8, generator=drawn()) * 255).round() / 255
    spoiled, region = degradation(images, None)
    order = torch.randperm(20, generator=drawn(1))
    for again, expected in zip(degradation(images[order], None), (spoiled, region), strict=True):
        assert torch.equal(again, expected[order])
    assert torch.equal(degradation(images[3:4], None)[0], spoiled[3:4])
    assert len({tuple(one.flatten().tolist()) for one in spoiled - images}) > 10, "and not all of them the same"


@pytest.mark.parametrize("degradation", [PatchesHidden(0.5), Noise(0.2)])
def test_with_a_generator_it_decides(degradation) -> None:
    images = torch.rand(5, 1, 8, 8)
    once, again, other = (degradation(images, drawn(seed))[0] for seed in (3, 3, 4))
    assert torch.equal(once, again) and not torch.equal(once, other)


@pytest.mark.parametrize("name", degradations.names())
def test_a_kind_keeps_its_contract(name: str) -> None:
    kind = degradations.get(name)
    images = torch.rand(4, 3, 16, 12, generator=drawn())
    before = images.clone()
    spoiled, region = kind.degradation(name, None)(images, drawn())
    assert torch.equal(images, before)
    assert spoiled.shape == images.shape and region.shape == (4, 1, 16, 12)
    assert bool(((spoiled >= 0) & (spoiled <= 1)).all())
    assert set(region.unique().tolist()) <= {0.0, 1.0} and bool((region.flatten(1).sum(dim=1) > 0).all())
    known = (1 - region).expand_as(images).bool()
    assert torch.equal(spoiled[known], images[known]), "what is not judged is left as it was"
    assert kind.what.endswith(".")
    if kind.hides:
        others = kind.degradation(name, None)(torch.rand(4, 3, 16, 12), drawn(9))[1]
        assert torch.equal(region, others) and torch.equal(region[:1].expand_as(region), region)


@pytest.mark.parametrize(("name", "strength"), [("inpainting", 0.0), ("inpainting", 1.0), ("denoising", -0.1)])
def test_a_strength_out_of_range_is_told(name: str, strength: float) -> None:
    with pytest.raises(SettingsError, match=f"{name}={strength:g} is out of range; expected .*: 0 to 1"):
        degradations.get(name).degradation(name, strength)


def test_what_has_no_strength_says_so() -> None:
    with pytest.raises(SettingsError, match="'colourisation' has no strength"):
        degradations.get("colourisation").degradation("colourisation", 0.5)
