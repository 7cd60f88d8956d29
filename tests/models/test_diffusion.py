"""The schedule and its steps against their closed forms; what all families promise is in test_image_to_image.py."""

from __future__ import annotations

import math

import pytest
import torch

from fedunlearn.errors import SettingsError
from fedunlearn.models import networks
from fedunlearn.models.diffusion import STEPS, scheduler


def kept(step: int) -> float:
    """Share of the signal's variance after `step` + 1 steps of the cosine schedule (Nichol and Dhariwal, 2021)."""

    def share(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    product = 1.0
    for one in range(step + 1):
        product *= 1 - min(1 - share((one + 1) / STEPS) / share(one / STEPS), 0.999)
    return product


@pytest.mark.parametrize("step", [0, 60, 124, 249])
def test_noise_is_added_as_the_cosine_schedule_says(step: int) -> None:
    clean, noise = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    found = scheduler().add_noise(clean, noise, torch.tensor([step, step]))
    expected = math.sqrt(kept(step)) * clean + math.sqrt(1 - kept(step)) * noise
    assert torch.allclose(found, expected, atol=1e-4)


def taken(step: int, eta: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
    """What one step of the sampler makes of a noisy image whose noise is told exactly; clean, noisy, step before."""
    clean, noise = 0.5 * torch.rand(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    schedule = scheduler()
    schedule.set_timesteps(10)
    noisy = schedule.add_noise(clean, noise, torch.tensor([step, step]))
    made = schedule.step(noise, step, noisy, eta=eta, variance_noise=torch.zeros_like(noisy)).prev_sample
    return made, clean, noisy, step - STEPS // 10


@pytest.mark.parametrize("step", [50, 100, 200])
def test_a_step_without_noise_is_that_of_ddim(step: int) -> None:
    """sqrt(a') x0 + sqrt(1 - a') noise: equation 12 of Song et al. with sigma 0."""
    made, clean, noisy, before = taken(step, eta=0.0)
    noise = (noisy - math.sqrt(kept(step)) * clean) / math.sqrt(1 - kept(step))
    expected = math.sqrt(kept(before)) * clean + math.sqrt(1 - kept(before)) * noise
    assert torch.allclose(made, expected, atol=2e-3)


@pytest.mark.parametrize("step", [50, 100, 200])
def test_with_the_noise_of_ddpm_its_mean_is_the_posterior_of_a_gaussian(step: int) -> None:
    """x' given x and x0, by Bayes: precisions add up, and means weigh as their precisions."""
    made, clean, noisy, before = taken(step, eta=1.0)
    ratio = kept(step) / kept(before)
    prior_precision, likelihood_precision = 1 / (1 - kept(before)), ratio / (1 - ratio)
    mean = (prior_precision * math.sqrt(kept(before)) * clean + likelihood_precision * noisy / math.sqrt(ratio)) / (
        prior_precision + likelihood_precision
    )
    assert torch.allclose(made, mean, atol=2e-3)


def test_sides_that_cannot_be_halved_are_told() -> None:
    with pytest.raises(SettingsError, match="sides are multiples of 2 pixels"):
        networks.get("diffusion")((1, 9, 8), 10)


def test_what_is_painted_outside_the_region_is_not_looked_at() -> None:
    """Methods train towards other images: there, too, the network sees the known pixels that it sees in sampling."""
    torch.manual_seed(0)
    model = networks.get("diffusion")((1, 8, 8), 10).eval()
    images, region = torch.rand(3, 1, 8, 8), torch.zeros(3, 1, 8, 8)
    region[:, :, 2:6, 2:6] = 1
    degraded = torch.cat([images * (1 - region), region], dim=1)
    # Two of its pixels changed places: the fixed draws follow the sum of an image's values.
    other = images.clone()
    other[:, :, 0, :2] = images[:, :, 0, :2].flip(-1)
    with torch.no_grad():
        assert torch.equal(model(degraded, images), model(degraded, other))
