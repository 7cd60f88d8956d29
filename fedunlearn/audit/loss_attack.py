"""Loss-threshold membership inference, measured in the federation's way (Yeom et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedunlearn.audit import score_attack
from fedunlearn.audit.margin import MARGIN_EDGES, of_losses
from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.subject import Subject
from fedunlearn.data.dataset import Samples

NAME = "membership_auc"


def measure(subject: Subject, generator: torch.Generator) -> Finding:
    """Histograms of the losses, as margins: a model that has learned little has all its losses in a few narrow bins
    of margins, and in one bin of a logarithmic scale."""

    def score(samples: Samples) -> Tensor:
        return of_losses(subject.evaluate(subject.model, samples).losses)

    return score_attack.measure(subject, score, MARGIN_EDGES, generator)


def combine(gathered: Gathered) -> Mapping[str, Value]:
    """AUC of the loss, and what belongs to it."""
    return score_attack.combine(NAME, gathered, len(MARGIN_EDGES) + 1)
