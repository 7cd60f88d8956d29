"""Random encoder: the features of forgotten images become noise; everything else is trained on as before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.image_to_image.joint import (
    FORGET_OPTIONS,
    encoding,
    features,
    mean_squares,
    original,
    train_forget_term,
    two_terms,
)
from fedunlearn.strategies.method import EVERY_SCOPE, Need, Phase, Reply, Scope, Work, methods


@dataclass(frozen=True)
class RandomEncoder:
    """Minimise (loss of the retained data) + weight x (squared distance of forgotten images' features from noise).

    The noise is Gaussian with the mean and deviation of the original encoder's features of the forget set, drawn anew
    in each round.

    Options: `weight` (0.25) and `forget_epochs` (the local epochs), how many passes the target makes.
    """

    name: str = "random-encoder"
    source: str = (
        "Li et al. 2024, arXiv 2402.00351 (as a baseline; its public code weighs the wrong samples, which is not "
        "repeated); reconstruction: the two roles, whose changes are added, and the weight"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target", "encoder"})
    options: frozenset[str] = FORGET_OPTIONS
    earnest: bool = False

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """`settings.rounds` rounds of both terms."""
        return two_terms(settings, _scatter)


def _scatter(work: Work) -> Reply:
    task = encoding(work.task)
    known = features(work, original(work), work.task.inputs(work.forget.inputs))
    noise = known.mean() + known.std() * torch.randn(known.shape, generator=work.generator)

    def term(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        return mean_squares(task.encode(model, inputs), noise[positions])

    return train_forget_term(work, term)


methods.register("random-encoder", RandomEncoder())
