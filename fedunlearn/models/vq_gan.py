"""A VQ-GAN with a masked token transformer, which completes images token by token in one pass.

After Esser et al. 2021 ("Taming transformers") and Li et al. 2023 ("MAGE"), at sizes of our own (*reconstruction*):
images become a grid of codes, the transformer names the codes of what is hidden, the decoder paints them.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from fedunlearn.errors import SettingsError
from fedunlearn.models.image_to_image import ImageToImageNetwork, region_of, squared_error
from fedunlearn.models.quantiser import Quantiser
from fedunlearn.models.registered import InputShape, networks, require_size
from fedunlearn.models.steps import step

PATCH = 4
"""Pixels of a token's side: the encoder halves images twice."""
CODE = 8
"""Numbers of a code: in few dimensions more of the codes are near to something and come into use."""
QUANTISED = 0.1
"""Weight of the distance to the codes; at 1 it is cheapest to use a single one."""
TOKENS = 0.1
"""Weight of the cross-entropy of hidden codes, which is measured in nats and the rest in squared pixels."""
ADVERSARIAL = 0.02
"""Weight of the generator's part in the game with the discriminator."""


class VQGAN(ImageToImageNetwork):
    """Encoder, codebook, token transformer, decoder and discriminator in one module, so that one model is averaged.

    Tokens of the degraded image that the region touches are hidden from the transformer but for their place, except
    where everything is judged (denoising, colourisation): there it sees the tokens of what is left.

    Args:
        input_shape: C, H, W of the images; sides are multiples of 4.
        classes: not used; images have none here.
        width: channels of the first step; the second has twice as many.
        codes: size of the codebook.
        dimensions: of a token in the transformer.
        layers: of the transformer.
    """

    def __init__(
        self,
        input_shape: InputShape,
        classes: int,
        width: int = 32,
        codes: int = 128,
        dimensions: int = 64,
        layers: int = 2,
    ) -> None:
        super().__init__()
        require_size("vq-gan", input_shape, 8)
        channels, height, across = input_shape
        if height % PATCH or across % PATCH:
            raise SettingsError(
                f"network 'vq-gan' needs images whose sides are multiples of {PATCH} pixels, and they are "
                f"{height} x {across}; choose another network."
            )
        latent = 2 * width
        self.encoder = nn.Sequential(
            step(channels, width, stride=2), step(width, latent, stride=2), nn.Conv2d(latent, CODE, 3, padding=1)
        )
        # Without weights: the codes take the scale that it gives.
        self.normalise = nn.GroupNorm(1, CODE, affine=False)
        self.quantiser = Quantiser(codes, CODE)
        self.embed = nn.Linear(CODE, dimensions)
        self.hidden = nn.Parameter(torch.zeros(dimensions))
        self.places = nn.Parameter(0.02 * torch.randn(height // PATCH * (across // PATCH), dimensions))
        block = nn.TransformerEncoderLayer(
            dimensions, 4, 2 * dimensions, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.name_codes = nn.Linear(dimensions, codes)
        self.decoder = nn.ModuleList([step(CODE, latent), step(latent, width), step(width, width)])
        self.output = nn.Conv2d(width, channels, 3, padding=1)
        self.discriminator = nn.Sequential(
            step(channels, width, stride=2), step(width, latent, stride=2), nn.Conv2d(latent, 1, 3, padding=1)
        )

    def complete(self, degraded: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Completed images, N x C x H x W, 0 to 1; nothing is random.

        In a hidden place stands the mean of all codes, weighed by their probabilities: the likeliest one alone is often
        sharp in the wrong place.
        """
        seen = self.quantiser(self.encode(degraded)).latents
        hidden = hidden_tokens(region_of(degraded))
        return self._painted(seen, hidden, self._logits(seen, hidden))

    def losses(self, degraded: Tensor, images: Tensor) -> Tensor:
        """Of each sample, N: squared errors of the decoded and, in the region, of the completed image, distance to the
        codes, cross-entropy of hidden codes.

        In training the game with the discriminator comes on top: a hinge loss for it, and for the decoder the mean of
        what the discriminator says, with weights that this part does not move.
        """
        latents = self.latents(images)
        quantised = self.quantiser(latents)
        painted = self.decode(quantised.latents)
        hidden = hidden_tokens(region_of(degraded))
        seen = self.quantiser(self.encode(degraded)).latents.detach()
        named = self._logits(seen, hidden)
        missed = functional.cross_entropy(named, quantised.codes.detach(), reduction="none")
        token_losses = (missed * hidden).flatten(1).sum(dim=1) / hidden.flatten(1).sum(dim=1).clamp_min(1)
        completed = squared_error(self._painted(seen, hidden, named), images, region_of(degraded))
        decoded = (painted - images).square().flatten(1).mean(dim=1)
        losses = completed + decoded + QUANTISED * quantised.losses + TOKENS * token_losses
        return losses + self._game(images, painted) if self.training else losses

    def encode(self, degraded: Tensor) -> Tensor:
        """Latents of degraded images, N x D x H/4 x W/4, before they are quantised; the region is not looked at."""
        return self.latents(degraded[:, :-1])

    def latents(self, images: Tensor) -> Tensor:
        """Latents of images, N x C x H x W, before they are quantised: N x D x H/4 x W/4."""
        latents: Tensor = self.normalise(self.encoder(images))
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Images, N x C x H x W, 0 to 1, of quantised latents."""
        first, *enlarging = self.decoder
        hidden = first(latents)
        for one in enlarging:
            hidden = one(functional.interpolate(hidden, scale_factor=2))
        return torch.sigmoid(self.output(hidden))

    def _logits(self, latents: Tensor, hidden: Tensor) -> Tensor:
        """Scores of the codes in each place, N x codes x H/4 x W/4."""
        tokens = self.embed(latents.flatten(2).transpose(1, 2))
        unseen = hidden.flatten(1)[:, :, None]
        # Where everything is hidden what is left of the image is all there is to go by.
        shown = unseen & ~unseen.all(dim=1, keepdim=True)
        tokens = torch.where(shown, self.hidden, tokens + self.hidden * unseen) + self.places
        named = self.name_codes(self.transformer(tokens))
        return named.transpose(1, 2).unflatten(2, latents.shape[2:])

    def _painted(self, seen: Tensor, hidden: Tensor, named: Tensor) -> Tensor:
        """The image with the expected code in each hidden place and what is seen elsewhere."""
        expected = (named.softmax(dim=1).movedim(1, -1) @ self.quantiser.codebook).movedim(-1, 1)
        return self.decode(torch.where(hidden[:, None], expected, seen))

    def _game(self, images: Tensor, painted: Tensor) -> Tensor:
        still = {name: one.detach() for name, one in self.discriminator.named_parameters()}
        fooling = -functional_call(self.discriminator, still, (painted,)).flatten(1).mean(dim=1)
        real, made = (self.discriminator(one).flatten(1) for one in (images, painted.detach()))
        judging = ((1 - real).relu() + (1 + made).relu()).mean(dim=1)
        return ADVERSARIAL * (fooling + judging)


def hidden_tokens(region: Tensor) -> Tensor:
    """The places whose patch of pixels the region touches, N x H/4 x W/4 of true and false."""
    return functional.max_pool2d(region, PATCH).squeeze(1) > 0


networks.register("vq-gan", VQGAN)
networks.register("vq-gan-large", partial(VQGAN, width=64, codes=512, dimensions=256, layers=6))
