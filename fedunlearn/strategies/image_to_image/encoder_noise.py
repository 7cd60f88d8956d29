"""Encoder to noise (Li et al.): forgotten images are encoded as noise is, what remains as ever; the decoder stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.image_to_image.joint import (
    FORGET_OPTIONS,
    encoding,
    features,
    mean_squares,
    noise_like,
    original,
    train_forget_term,
    two_terms,
)
from fedunlearn.strategies.method import EVERY_SCOPE, Need, Phase, Reply, Scope, Work, methods
from fedunlearn.strategies.passes import ByPosition, train_by_position
from fedunlearn.strategies.recovery import local_recipe


@dataclass(frozen=True)
class EncoderToNoise:
    """Minimise |E(x) - E0(x)|^2 on retained images + weight x |E(x) - E0(noise)|^2 on forgotten ones.

    E is the encoder, the only thing that moves, and E0 the original one; the noise is Gaussian with each image's mean
    and deviation, drawn anew in each round. Squares are means over features.

    Options: `weight` (0.25) and `forget_epochs` (the local epochs), how many passes the target makes.
    """

    name: str = "encoder-to-noise"
    source: str = (
        "Li et al. 2024, Machine Unlearning for Image-to-Image Generative Models (arXiv 2402.00351); reconstruction: "
        "the two roles, whose changes are added, the federation's gradient descent for AdamW, and the weight"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target", "encoder"})
    options: frozenset[str] = FORGET_OPTIONS
    earnest: bool = False

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """`settings.rounds` rounds of both terms."""
        return two_terms(settings, encode_as_noise, keep_encoding)


def encode_as_noise(work: Work) -> Reply:
    """The target's term."""
    noise = noise_like(work.task.inputs(work.forget.inputs), work.generator)
    return train_forget_term(work, distance_to(work, noise))


def keep_encoding(work: Work) -> Reply:
    """The retain term: the features stay what they were."""
    term = distance_to(work, work.task.inputs(work.retain.inputs))
    return train_by_position(work, work.retain, term, local_recipe(work.training, work.settings))


def distance_to(work: Work, images: Tensor) -> ByPosition:
    """A term: the squared distance of each sample's features from those that the original gives to `images`, N."""
    task, goals = encoding(work.task), features(work, original(work), images)

    def term(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        return mean_squares(task.encode(model, inputs), goals[positions])

    return term


methods.register("encoder-to-noise", EncoderToNoise())
