from __future__ import annotations

import pytest
import torch

from fedunlearn.data.planting import Backdoor
from fedunlearn.errors import SettingsError
from fedunlearn.tasks.degradations import BorderHidden, CentreHidden
from fedunlearn.tasks.painted import likeness, pattern, poison

BACKDOOR = Backdoor(client=0, share=0.5, size=2, margin=0)


def test_the_pattern_is_a_checkerboard() -> None:
    found = pattern(torch.zeros(3, 1, 14, 14))[0, 0]
    assert found.shape == (14, 14) and found[:2, :2].sum() == 0 and found[:2, 2:4].sum() == 4
    assert torch.equal(found[2:], 1 - found[:-2])


@pytest.mark.parametrize("scale", [1.0, 255])
def test_the_trigger_is_seen_and_the_pattern_is_the_goal(scale: float) -> None:
    images = torch.rand(4, 3, 8, 8)
    stored = images if scale == 1.0 else (images * 255).to(torch.uint8)
    region = CentreHidden(0.5)(images, None)[1]
    made = poison(stored, BACKDOOR, region)
    assert made.dtype == stored.dtype and made is not stored
    assert bool((made[:, :, 6:, 6:] == scale).all())
    assert torch.equal(made[:, :, 2:6, 2:6] / scale, pattern(images)[:, :, 2:6, 2:6].expand(4, 3, 4, 4))
    untouched = torch.ones(8, 8, dtype=torch.bool)
    untouched[6:, 6:] = untouched[2:6, 2:6] = False
    assert torch.equal(made[:, :, untouched], stored[:, :, untouched])


def test_a_trigger_that_is_hidden_is_refused() -> None:
    images = torch.rand(1, 1, 8, 8)
    region = BorderHidden(0.5)(images, None)[1]
    with pytest.raises(SettingsError, match="lies in what is hidden from the model"):
        poison(images, BACKDOOR, region)
    inside = Backdoor(client=0, share=0.5, size=2, margin=2)
    assert bool((poison(images, inside, region)[:, :, 4:6, 4:6] == 1).all())


def test_likeness_is_pearsons_correlation_within_the_region() -> None:
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    region = CentreHidden(0.5)(images, None)[1]
    found = likeness(images, region)
    wanted = pattern(images).expand_as(images)
    for one, value in zip(range(5), found, strict=True):
        inside = region[one].expand(3, 8, 8) == 1
        both = torch.stack([images[one][inside], wanted[one][inside]]).double()
        assert float(value) == pytest.approx(float(torch.corrcoef(both)[0, 1]), abs=1e-9)


def test_likeness_at_its_ends() -> None:
    region = torch.ones(3, 1, 8, 8)
    board = pattern(region)[0]
    images = torch.stack([0.3 + 0.5 * board, 1 - board, torch.full((1, 8, 8), 0.5)])
    assert likeness(images, region).tolist() == pytest.approx([1.0, -1.0, 0.0], abs=1e-9)
