"""Noisy label: the model learns to paint noise where it should complete an image of the forget set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.image_to_image.joint import (
    FORGET_OPTIONS,
    noise_like,
    targeted,
    train_forget_term,
    two_terms,
)
from fedunlearn.strategies.method import EVERY_SCOPE, Need, Phase, Reply, Scope, Work, methods


@dataclass(frozen=True)
class NoisyLabel:
    """Minimise (loss of the retained data) + weight x (loss of the forget set towards noise).

    The noise is Gaussian with each image's mean and deviation, drawn anew in each round.

    Options: `weight` (0.25) and `forget_epochs` (the local epochs), how many passes the target makes.
    """

    name: str = "noisy-label"
    source: str = (
        "Li et al. 2024, arXiv 2402.00351 (as a baseline); reconstruction: the two roles, whose changes are added, the "
        "weight, and noise images in the place of random tokens"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target", "other-goals"})
    options: frozenset[str] = FORGET_OPTIONS
    earnest: bool = False

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """`settings.rounds` rounds of both terms."""
        return two_terms(settings, _paint_noise)


def _paint_noise(work: Work) -> Reply:
    task = targeted(work.task)
    noise = noise_like(work.task.inputs(work.forget.inputs), work.generator)

    def term(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        return task.loss_to(model, inputs, noise[positions])

    return train_forget_term(work, term)


methods.register("noisy-label", NoisyLabel())
