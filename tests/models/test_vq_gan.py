from __future__ import annotations

import torch

from fedunlearn.models.vq_gan import VQGAN, hidden_tokens


def game(part: str) -> set[str]:
    """The parameters that one side of the game moves."""
    torch.manual_seed(0)
    model = VQGAN((1, 8, 8), 10).train()
    images = torch.rand(4, 1, 8, 8)
    painted = model.decode(model.quantiser(model.latents(images)).latents)
    if part == "discriminator":
        painted = painted.detach()
    model._game(images, painted).mean().backward()
    return {name.partition(".")[0] for name, one in model.named_parameters() if one.grad is not None}


def test_the_discriminator_learns_from_judging_and_the_rest_from_fooling_it() -> None:
    assert game("discriminator") == {"discriminator"}
    assert game("generator") == {"discriminator", "encoder", "decoder", "output"}


def test_fooling_does_not_move_the_discriminator() -> None:
    """Its gradient is that of the hinge loss alone, whatever was painted."""
    torch.manual_seed(0)
    model = VQGAN((1, 8, 8), 10).train()
    images, painted = torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8)
    model._game(images, painted).sum().backward()
    found = [one.grad.clone() for one in model.discriminator.parameters() if one.grad is not None]
    model.zero_grad()
    real, made = (model.discriminator(one).flatten(1) for one in (images, painted))
    (0.02 * ((1 - real).relu() + (1 + made).relu()).mean(dim=1)).sum().backward()
    expected = [one.grad for one in model.discriminator.parameters()]
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(found, expected, strict=True))


def test_a_token_is_hidden_when_one_of_its_pixels_is() -> None:
    region = torch.zeros(1, 1, 8, 8)
    region[0, 0, 3, 3] = 1
    region[0, 0, 4, 7] = 1
    assert hidden_tokens(region).tolist() == [[[True, False], [False, True]]]


def test_what_is_hidden_cannot_be_read_off_the_input() -> None:
    torch.manual_seed(0)
    model = VQGAN((1, 16, 16), 10).eval()
    region = torch.zeros(1, 1, 16, 16)
    region[:, :, 4:12, 4:12] = 1
    hidden = hidden_tokens(region)
    one, other = torch.randn(2, 1, 8, 4, 4)
    other = torch.where(hidden[:, None], other, one)
    with torch.no_grad():
        assert torch.equal(model._logits(one, hidden), model._logits(other, hidden))
