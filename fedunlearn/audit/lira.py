"""Likelihood-ratio membership attacks: is a sample's margin that of models which never saw it?

Offline LiRA after Carlini et al. 2022: only models without the sample are at hand, the references, all retrained
without the forget set, and no unseen sample is in them either. Its online form needs, for every sample, models that
were trained with it; for the question of unlearning that world is the unlearned one, which is `u_lira`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedunlearn.audit import score_attack
from fedunlearn.audit.margin import MARGIN_EDGES, margins
from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.subject import ModelState, Subject
from fedunlearn.data.dataset import Samples

NAME = "lira_auc"
OWN_DEVIATION = 64
"""From so many models on each sample has a deviation of its own; before, one for all (as in the paper)."""
LEAST_DEVIATION = 1e-3


def margins_of(subject: Subject, states: tuple[ModelState, ...], samples: Samples) -> Tensor:
    """Margins of the samples in each model, M x N, float64."""
    rows = [margins(subject.evaluate(state, samples).logits, samples.labels) for state in states]
    return torch.stack(rows) if rows else torch.empty(0, len(samples), dtype=torch.float64)


def deviations(worlds: Tensor) -> Tensor:
    """Deviation of each sample's margin between models, (N,): its own from 64 models on, else one for all.

    The common one is pooled within the samples. Taking the deviation over samples and models at once, as public code
    does, adds to it how much the samples differ, which is no noise of the attack.

    Args:
        worlds: M x N, M >= 2.
    """
    variances = worlds.var(dim=0)
    if len(worlds) < OWN_DEVIATION:
        variances = variances.mean().expand(worlds.shape[1]) if variances.numel() else variances
    return variances.sqrt().clamp_min(LEAST_DEVIATION)


def offline_scores(own: Tensor, without: Tensor) -> Tensor:
    """How far each margin lies above those of models without the sample, (N,): in deviations from 64 models on.

    With one deviation for all samples their order is that of the plain differences. Those are taken then: server and
    clients would pool different samples, and their scores would not compare.

    Args:
        own: margins in the audited model, (N,).
        without: M x N.
    """
    difference = own - without.mean(dim=0)
    return difference / deviations(without) if len(without) >= OWN_DEVIATION else difference


def measure(subject: Subject, generator: torch.Generator) -> Finding:
    """Histograms of the scores."""

    def score(samples: Samples) -> Tensor:
        (own,) = margins_of(subject, (subject.model,), samples)
        return offline_scores(own, margins_of(subject, subject.references, samples))

    return score_attack.measure(subject, score, MARGIN_EDGES, generator)


def combine(gathered: Gathered) -> Mapping[str, Value]:
    """AUC of the score, and what belongs to it."""
    return score_attack.combine(NAME, gathered, len(MARGIN_EDGES) + 1)
