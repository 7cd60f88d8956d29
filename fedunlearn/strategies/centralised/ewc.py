"""EWC: wrong labels for the forget set, while weights that matter for the retained samples are held in their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.centralised.importance import mean_gradients
from fedunlearn.strategies.centralised.relabelled_terms import (
    SOURCE,
    model_at_base,
    relabelled_rounds,
    train_relabelled,
)
from fedunlearn.strategies.method import EVERY_SCOPE, Need, Phase, Reply, Scope, Work, methods
from fedunlearn.strategies.option import number

STRENGTH, BATCH = 10.0, 8


@dataclass(frozen=True)
class ElasticWeightConsolidation:
    """Cross-entropy of wrong labels and of retained samples, + `strength` x importance x squared change of each weight.

    Importance is the mean square of gradients of the original model on the client's own retained samples, in batches
    of 8 (ours), and stays where it is computed. Option: `strength` (10).
    """

    name: str = "ewc"
    source: str = f"Kirkpatrick et al. 2017, Elastic Weight Consolidation (arXiv 1612.00796), with replay, {SOURCE}"
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target"})
    options: frozenset[str] = frozenset({"strength"})
    earnest: bool = False

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """`settings.rounds` joint rounds."""
        number(settings, "strength", STRENGTH)
        return relabelled_rounds(settings, _train)


def _train(work: Work) -> Reply:
    labels, strength = work.retain.labels, number(work.settings, "strength", STRENGTH)
    importance = mean_gradients(replace(work, model=model_at_base(work)), work.retain, BATCH, power=2)

    def keep(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        return work.task.loss(model, inputs, labels[positions])

    def penalty(model: nn.Module) -> Tensor:
        changes = [(importance[n] * (p - work.base[n]).square()).sum() for n, p in model.named_parameters()]
        return strength * torch.stack(changes).sum()

    return train_relabelled(work, keep, penalty)


methods.register("ewc", ElasticWeightConsolidation())
