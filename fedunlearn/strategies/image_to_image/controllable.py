"""Controllable unlearning (Feng et al.): forget as far as possible, then give some of it back for what remains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.image_to_image.encoder_noise import distance_to, encode_as_noise, keep_encoding
from fedunlearn.strategies.image_to_image.joint import (
    FORGET_OPTIONS,
    features,
    mean_squares,
    noise_like,
    original,
    train_forget_term,
    two_terms,
)
from fedunlearn.strategies.method import EVERY_SCOPE, Need, Phase, Reply, Scope, Work, methods
from fedunlearn.strategies.option import number

RELAXATION, FIRST = 0.5, 0.5


@dataclass(frozen=True)
class Controllable:
    """Two phases on the terms of `encoder-to-noise`, of which the second constrains the forget term from above.

    The first looks for the boundary, the most that can be forgotten: both terms, unbounded. In the second the forget
    term is active only while it exceeds `relaxation` (0.5) times its value in the original model, 0: the boundary
    itself, 1: whatever the retained data like.

    Options: `relaxation` (0 to 1), `first` (0.5), the share of the rounds in the first phase, `weight` (0.25) and
    `forget_epochs` (the local epochs).
    """

    name: str = "controllable"
    source: str = (
        "Feng et al. 2025, Controllable Unlearning for Image-to-Image Generative Models via epsilon-constrained "
        "optimization (arXiv 2408.01689); no code is public: reconstruction of all but the two phases and the "
        "constraint, which is a gate here, and the second boundary solution is the original model"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target", "encoder"})
    options: frozenset[str] = FORGET_OPTIONS | {"relaxation", "first"}
    earnest: bool = False

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """`settings.rounds` rounds of both terms; the later ones constrain the target's."""
        number(settings, "relaxation", RELAXATION, highest=1.0)
        first = math.ceil(number(settings, "first", FIRST, highest=1.0) * settings.rounds)
        unbounded = two_terms(settings, encode_as_noise, keep_encoding)
        constrained = two_terms(settings, _encode_as_noise_while_far, keep_encoding)
        return [*unbounded[: 2 * first], *constrained[2 * first :]]


def _encode_as_noise_while_far(work: Work) -> Reply:
    images = work.task.inputs(work.forget.inputs)
    noise, teacher = noise_like(images, work.generator), original(work)
    whole = mean_squares(features(work, teacher, images), features(work, teacher, noise)).mean()
    limit = number(work.settings, "relaxation", RELAXATION, highest=1.0) * whole
    distance = distance_to(work, noise)

    def term(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        # The constraint is on the mean, not on each sample.
        return torch.relu(distance(model, inputs, positions).mean() - limit).expand(len(positions))

    return train_forget_term(work, term)


methods.register("controllable", Controllable())
