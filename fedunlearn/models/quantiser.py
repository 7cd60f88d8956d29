"""Vector quantisation with a straight-through gradient (van den Oord et al., 2017, "Neural Discrete Representation
Learning")."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Quantised(NamedTuple):
    """What quantising N x D x H x W gives.

    Attributes:
        latents: the nearest codes, N x D x H x W; their gradient is that of what was quantised.
        codes: which they are, N x H x W, int64.
        losses: mean squared distance between latents and codes of each sample, N: the codes are drawn to the latents
            in full, the latents to the codes by `commitment`.
    """

    latents: Tensor
    codes: Tensor
    losses: Tensor


class Quantiser(nn.Module):
    """A codebook.

    Args:
        codes: how many there are.
        channels: D.
        commitment: weight of the latents' share of the loss.
    """

    def __init__(self, codes: int, channels: int, commitment: float = 0.25) -> None:
        super().__init__()
        # As the normalised latents are spread, so that hardly a code is out of their reach from the start.
        self.codebook = nn.Parameter(torch.randn(codes, channels))
        self.commitment = commitment

    def forward(self, latents: Tensor) -> Quantised:
        """Replace every vector of `latents`, N x D x H x W, by the code nearest to it."""
        vectors = latents.movedim(1, -1)
        codes = self.nearest(vectors)
        found = self.codebook[codes]
        apart = (found - vectors.detach()).square() + self.commitment * (found.detach() - vectors).square()
        # The difference has no gradient: what comes back passes straight through to the latents.
        through = vectors + (found - vectors).detach()
        return Quantised(through.movedim(-1, 1), codes, apart.flatten(1).mean(dim=1))

    def nearest(self, vectors: Tensor) -> Tensor:
        """The index of the code with the smallest Euclidean distance to each of ... x D vectors."""
        products = vectors @ self.codebook.t()
        return (self.codebook.square().sum(dim=1) - 2 * products).argmin(dim=-1)
