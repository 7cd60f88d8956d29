"""l1-sparse unlearning: fine-tuning with a decaying penalty on the size of all weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.method import EVERY_SCOPE, Need, Phase, Reply, Scope, Work, methods
from fedunlearn.strategies.option import number, whole
from fedunlearn.strategies.recovery import RECOVER, local_recipe
from fedunlearn.tasks.training import train_locally

GAMMA = 5e-4


@dataclass(frozen=True)
class L1Sparse:
    """Recovery rounds, every parameter moving, whose loss has gamma x (sum of all |weights|) added to it.

    gamma falls in equal steps from round to round to 0, and is 0 in the last `rounds_without` rounds. With `gamma` 0
    this is fine-tuning to the bit.

    Options: `gamma` (default 5e-4) and `rounds_without` (default 0).
    """

    name: str = "l1-sparse"
    source: str = (
        "Jia et al. 2023, arXiv 2304.04934 (unlearning with a sparsity penalty); reconstruction: the penalty falls "
        "with the rounds in place of epochs"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset()
    earnest: bool = False
    options: frozenset[str] = frozenset({"gamma", "rounds_without"})

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """`settings.rounds` recovery rounds."""
        gamma = number(settings, "gamma", GAMMA)
        without = whole(settings, "rounds_without", 0, highest=settings.rounds)
        return [_round(one) for one in penalties(gamma, settings.rounds, without)]


def penalties(gamma: float, rounds: int, without: int) -> list[float]:
    """The penalty of each round: gamma (1 - e / (rounds - without)) in round e = 0, 1, ..., then 0."""
    penalised = rounds - without
    return [gamma * (1 - e / penalised) if e < penalised else 0.0 for e in range(rounds)]


def _round(penalty: float) -> Phase:
    return replace(RECOVER, compute=partial(train_with_penalty, penalty=penalty)) if penalty else RECOVER


def train_with_penalty(work: Work, penalty: float) -> Reply:
    """Train on the retained samples; every sample's loss has `penalty` x (sum of all |weights|) added."""
    weights = [parameter for parameter in work.model.parameters() if parameter.requires_grad]

    def loss(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        size = torch.stack([weight.abs().sum() for weight in weights]).sum()
        return work.task.loss(model, inputs, labels) + penalty * size

    recipe = local_recipe(work.training, work.settings)
    portion = None if work.mask is None else work.portion
    result = train_locally(work.task, work.model, work.retain, recipe, work.generator, portion, loss)
    return work.updated(len(work.retain), loss=result.mean_loss, epochs=recipe.local_epochs)


methods.register("l1-sparse", L1Sparse())
