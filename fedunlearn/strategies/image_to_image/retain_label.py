"""Retain label: where it should complete an image of the forget set, the model learns to paint one that stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import ClientError
from fedunlearn.strategies.image_to_image.joint import (
    FORGET_OPTIONS,
    original,
    own_images,
    targeted,
    train_forget_term,
    two_terms,
)
from fedunlearn.strategies.method import EVERY_SCOPE, Need, Phase, Reply, Scope, Work, methods
from fedunlearn.tasks.base import ImageToImageTask
from fedunlearn.tasks.outputs import answers


@dataclass(frozen=True)
class RetainLabel:
    """Minimise (loss of the retained data) + weight x (loss of the forget set towards other images).

    These are what the original model makes of images that the target keeps, one drawn for each of the forget set in
    each round; a target that keeps none takes images that it never trained on.

    Options: `weight` (0.25) and `forget_epochs` (the local epochs), how many passes the target makes.
    """

    name: str = "retain-label"
    source: str = (
        "Li et al. 2024, arXiv 2402.00351 (as a baseline; its public code weighs the wrong samples, which is not "
        "repeated); reconstruction: the two roles, the weight, and where a leaving target's images come from"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target", "other-goals"})
    options: frozenset[str] = FORGET_OPTIONS
    earnest: bool = False

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """`settings.rounds` rounds of both terms."""
        return two_terms(settings, _paint_others)


def _paint_others(work: Work) -> Reply:
    task, stays = targeted(work.task), own_images(work)
    if not isinstance(work.task, ImageToImageTask):
        raise ClientError(f"task {work.task.name!r} does not answer with images; use an image-to-image task.")
    drawn = torch.randint(len(stays), (len(work.forget),), generator=work.generator)
    goals = answers(work.task, original(work), stays)[drawn]

    def term(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        return task.loss_to(model, inputs, goals[positions])

    return train_forget_term(work, term)


methods.register("retain-label", RetainLabel())
