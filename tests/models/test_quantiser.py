from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedunlearn.models.quantiser import Quantiser


def a_quantiser(codes: int = 5, channels: int = 3, seed: int = 0) -> tuple[Quantiser, torch.Tensor]:
    torch.manual_seed(seed)
    return Quantiser(codes, channels), torch.randn(2, channels, 4, 3, requires_grad=True)


@given(seed=st.integers(0, 10_000), codes=st.integers(1, 9), channels=st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_every_vector_gets_its_nearest_code(seed: int, codes: int, channels: int) -> None:
    quantiser, latents = a_quantiser(codes, channels, seed)
    found = quantiser(latents)
    vectors = latents.detach().movedim(1, -1).reshape(-1, channels)
    distances = torch.cdist(vectors, quantiser.codebook.detach())
    chosen = distances.gather(1, found.codes.reshape(-1, 1)).squeeze(1)
    assert torch.allclose(chosen, distances.min(dim=1).values, atol=1e-5)
    assert torch.allclose(found.latents.movedim(1, -1), quantiser.codebook[found.codes], atol=1e-6)


def test_the_gradient_passes_straight_through() -> None:
    """As if the codes were the latents themselves: what comes back for one arrives at the other, unchanged."""
    quantiser, latents = a_quantiser()
    upstream = torch.randn(2, 3, 4, 3)
    quantiser(latents).latents.backward(upstream)
    assert latents.grad is not None and torch.equal(latents.grad, upstream)
    assert quantiser.codebook.grad is None, "the codes learn from their own loss alone"


def test_the_loss_and_its_gradients_by_hand() -> None:
    quantiser, latents = a_quantiser()
    quantiser.commitment = 0.5
    found = quantiser(latents)
    found.losses.sum().backward()
    vectors, size = latents.detach().movedim(1, -1), 3 * 4 * 3
    codes = quantiser.codebook.detach()[found.codes]
    assert torch.allclose(found.losses, 1.5 * (codes - vectors).square().flatten(1).mean(dim=1))
    assert latents.grad is not None and quantiser.codebook.grad is not None
    assert torch.allclose(latents.grad.movedim(1, -1), 0.5 * 2 * (vectors - codes) / size, atol=1e-6)
    expected = torch.zeros(5, 3).index_add_(0, found.codes.flatten(), (2 * (codes - vectors) / size).reshape(-1, 3))
    assert torch.allclose(quantiser.codebook.grad, expected, atol=1e-6)
