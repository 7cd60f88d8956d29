"""Membership inference from the entropy of the answers, by logistic regression, k-fold (Salem et al. 2019).

Public implementations gather every sample's entropy in one place. Here bins meet, and each sample stands in the
middle of its bin: a *reconstruction*. The value to compare with is the retrained model's own.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedunlearn.audit import score_attack
from fedunlearn.audit.counts import MINIMUM_SAMPLES
from fedunlearn.audit.margin import spread_edges
from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.regression_attack import balanced_accuracy, centres
from fedunlearn.audit.subject import Subject
from fedunlearn.data.dataset import Samples

NAME = "entropy_attack"
# A sure answer looks like a member's, so that the score is the negative entropy; 7 nats are a thousand classes.
EDGES = tuple(edge for edge in spread_edges(7.0, 0.001, 599) if edge <= 0)


def entropies(logits: Tensor) -> Tensor:
    """Entropy of each row's softmax in nats, (N,), float64, 0 to log K.

    Args:
        logits: N x K.
    """
    log_shares = logits.detach().double().log_softmax(dim=1)
    return -(log_shares.exp() * log_shares).sum(dim=1)


def measure(subject: Subject, generator: torch.Generator) -> Finding:
    """Histograms of the negative entropies."""

    def score(samples: Samples) -> Tensor:
        return -entropies(subject.evaluate(subject.model, samples).logits)

    return score_attack.measure(subject, score, EDGES, generator)


def combine(gathered: Gathered) -> Mapping[str, Value]:
    """Balanced accuracy of the regression, and the AUC of the entropy itself."""
    sides = score_attack.sides(gathered, len(EDGES) + 1)
    names = (NAME, f"{NAME}.auc")
    if isinstance(sides, str):
        return dict.fromkeys(names, Value.refusal(f"{NAME} {sides}"))
    inside, outside = sides
    area = score_attack.values_of(f"{NAME}.auc", inside, outside)[f"{NAME}.auc"]
    smaller = min(sum(inside), sum(outside))
    if smaller < MINIMUM_SAMPLES:
        why = f"{NAME} needs {MINIMUM_SAMPLES} unseen samples to train its regression on; they are worth {smaller:g}."
        return {NAME: Value.refusal(why), f"{NAME}.auc": area}
    share = balanced_accuracy(inside, outside, centres(EDGES), gathered.seed)
    return {NAME: Value.rate(share, 2 * smaller), f"{NAME}.auc": area}
