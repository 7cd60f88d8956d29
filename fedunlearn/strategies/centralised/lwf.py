"""LwF: wrong labels for the forget set, and the original model's answers on the retained samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.centralised.relabelled_terms import SOURCE, relabelled_rounds, train_relabelled
from fedunlearn.strategies.method import EVERY_SCOPE, Need, Phase, Reply, Scope, Work, methods
from fedunlearn.strategies.option import number
from fedunlearn.strategies.passes import answers, divergence, losses_and_logits

DISTILLATION, RETAIN, TEMPERATURE = 0.5, 2.0, 2.0


@dataclass(frozen=True)
class LearningWithoutForgetting:
    """Cross-entropy of wrong labels, `retain` x cross-entropy + `distillation` x KL_T(original || model) of the rest.

    Options: `retain` (2) and `distillation` (0.5), at temperature 2, as in the paper that uses it as a baseline.
    """

    name: str = "lwf"
    source: str = f"Li and Hoiem 2016, Learning without Forgetting (arXiv 1606.09282), {SOURCE}"
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target", "class-scores"})
    options: frozenset[str] = frozenset({"retain", "distillation"})
    earnest: bool = False

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """`settings.rounds` joint rounds."""
        number(settings, "retain", RETAIN)
        number(settings, "distillation", DISTILLATION)
        return relabelled_rounds(settings, _train)


def _train(work: Work) -> Reply:
    labels, wanted = work.retain.labels, answers(work, work.base, work.retain)
    retain = number(work.settings, "retain", RETAIN)
    distillation = number(work.settings, "distillation", DISTILLATION)

    def keep(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        losses, logits = losses_and_logits(work.task, model, inputs, labels[positions])
        return retain * losses + distillation * divergence(wanted[positions], logits, TEMPERATURE)

    return train_relabelled(work, keep)


methods.register("lwf", LearningWithoutForgetting())
