"""DER++: wrong labels for the forget set, and the original model's features on the retained samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from fedunlearn.audit.probe import features
from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.bounded_training import forward_parts
from fedunlearn.strategies.centralised.relabelled_terms import (
    SOURCE,
    model_at_base,
    relabelled_rounds,
    train_relabelled,
)
from fedunlearn.strategies.method import EVERY_SCOPE, Need, Phase, Reply, Scope, Work, methods
from fedunlearn.strategies.option import number

RETAIN, FEATURES = 1.0, 0.1


@dataclass(frozen=True)
class DarkExperienceReplay:
    """Cross-entropy of wrong labels, `retain` x cross-entropy + `features` x squared distance of features of the rest.

    Features are what goes into the output layer, as the paper that uses it as a baseline has it; the method's own
    compares logits. Options: `retain` (1; 0 is DER) and `features` (0.1, our choice: mean over the features).
    """

    name: str = "der-plus-plus"
    source: str = f"Buzzega et al. 2020, Dark Experience (arXiv 2004.07211), {SOURCE}"
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target", "class-scores"})
    options: frozenset[str] = frozenset({"retain", "features"})
    earnest: bool = False

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """`settings.rounds` joint rounds."""
        number(settings, "retain", RETAIN)
        number(settings, "features", FEATURES)
        return relabelled_rounds(settings, _train)


def _train(work: Work) -> Reply:
    labels, layer = work.retain.labels, work.layout.output_layer
    wanted = features(work.task, model_at_base(work), layer, work.retain.inputs)
    retain, weight = number(work.settings, "retain", RETAIN), number(work.settings, "features", FEATURES)

    def keep(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        losses, found, _ = forward_parts(work.task, model, layer, inputs, labels[positions])
        return retain * losses + weight * (found - wanted[positions]).square().mean(dim=1)

    return train_relabelled(work, keep)


methods.register("der-plus-plus", DarkExperienceReplay())
