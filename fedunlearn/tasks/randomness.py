"""Seeds for code that only knows torch's global generator, such as the initialisation of layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fedunlearn.randomness import derive_seed

__all__ = ["derive_seed", "isolated_seed", "seeded_generator"]


@contextmanager
def isolated_seed(seed: int) -> Iterator[None]:
    """Inside, torch's global CPU generator starts from `seed`; afterwards it is what it was before."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


def seeded_generator(*parts: str | int) -> torch.Generator:
    """A CPU generator seeded with `derive_seed(*parts)`."""
    return torch.Generator().manual_seed(derive_seed(*parts))
