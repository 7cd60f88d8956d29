"""FedMIA: the other clients' updates are the world in which the target's samples were not learned.

Zhu et al. 2024 ("FedMIA: an effective membership inference attack exploiting the all-for-one principle"): in each
round the loss of a sample after the target's update is placed among its losses after the other clients' updates, as a
Gaussian's distribution function. A target that was forgotten sends no update any more. Here the audited model stands
for it, and the other clients' updates are those of one ordinary round around it: if the model remembers the sample,
others train that away. This is a *reconstruction*; the form that compares directions of gradients is left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedunlearn.audit import score_attack
from fedunlearn.audit.margin import MARGIN_EDGES
from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.subject import Subject
from fedunlearn.data.dataset import Samples

NAME = "fedmia_auc"
LEAST_DEVIATION = 1e-6


def scores(own: Tensor, others: Tensor) -> Tensor:
    """How many deviations each loss lies below those after the other clients' updates, (N,).

    The distribution function of a Gaussian at this value is the paper's score; it keeps the order.

    Args:
        own: losses in the audited model, (N,).
        others: losses after each other client's update, M x N, M >= 2.
    """
    own, others = own.double(), others.double()
    return (others.mean(dim=0) - own) / others.std(dim=0).clamp_min(LEAST_DEVIATION)


def measure(subject: Subject, generator: torch.Generator) -> Finding:
    """Histograms of the scores."""

    def score(samples: Samples) -> Tensor:
        others = torch.stack([subject.evaluate(state, samples).losses for state in subject.updates])
        return scores(subject.evaluate(subject.model, samples).losses, others)

    return score_attack.measure(subject, score, MARGIN_EDGES, generator)


def combine(gathered: Gathered) -> Mapping[str, Value]:
    """AUC of the score, and what belongs to it."""
    return score_attack.combine(NAME, gathered, len(MARGIN_EDGES) + 1)
