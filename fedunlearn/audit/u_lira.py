"""U-LiRA: are the forgotten samples those of a model that unlearned them, or of one that never saw them?

Hayes et al. 2024 ("Inexact unlearning needs more careful evaluations to avoid a false sense of privacy"). There is no
official code; fitting the Gaussians to the margins, one deviation for all samples below 64 models, and judging one
unlearned model against one retrained one are this project's *reconstruction*.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedunlearn.audit import score_attack
from fedunlearn.audit.counts import MINIMUM_SAMPLES, add
from fedunlearn.audit.lira import deviations, margins_of
from fedunlearn.audit.margin import spread_edges
from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.subject import ModelState, Subject
from fedunlearn.data.dataset import Samples

NAME = "u_lira_auc"
RATIO_EDGES = spread_edges(50.0, 0.1, 299)
"""300 bins of the log-likelihood ratio; 0 is an edge, so that the sign is exact."""


def log_ratios(own: Tensor, unlearned: Tensor, retrained: Tensor) -> Tensor:
    """log N(margin; unlearned world) - log N(margin; retrained world) of each sample, (N,).

    Args:
        own: margins in the judged model, (N,).
        unlearned, retrained: margins in the models of either world, M x N.
    """
    return _log_density(own, unlearned) - _log_density(own, retrained)


def _log_density(own: Tensor, world: Tensor) -> Tensor:
    deviation = deviations(world)
    return -(((own - world.mean(dim=0)) / deviation) ** 2) / 2 - deviation.log()


def measure(subject: Subject, generator: torch.Generator) -> Finding:
    """Log-likelihood ratios on the forget set (target) or the retained samples, in both judged models."""
    samples = subject.forget if subject.role == "target" else subject.retained
    if len(samples) < MINIMUM_SAMPLES or subject.retrained is None:
        return {}

    def bins(judged: ModelState) -> list[int]:
        return score_attack.score_bins(_ratios(subject, judged, samples), RATIO_EDGES)

    return {"unlearned": bins(subject.model), "retrained": bins(subject.retrained)}


def _ratios(subject: Subject, judged: ModelState, samples: Samples) -> Tensor:
    (own,) = margins_of(subject, (judged,), samples)
    unlearned = margins_of(subject, subject.shadows, samples)
    return log_ratios(own, unlearned, margins_of(subject, subject.references, samples))


def combine(gathered: Gathered) -> Mapping[str, Value]:
    """AUC, accuracy at even odds and TPR on the forget set, and the AUC on what is retained."""
    worlds = add(gathered.target.values())
    names = (*score_attack.value_names(NAME), f"{NAME}.accuracy", f"{NAME}.retained")
    if not worlds:
        why = f"{NAME} needs {MINIMUM_SAMPLES} samples in the forget set of a target; there are fewer."
        return dict.fromkeys(names, Value.refusal(why))
    values = score_attack.values_of(NAME, worlds["unlearned"], worlds["retrained"])
    values[f"{NAME}.accuracy"] = _accuracy(worlds["unlearned"], worlds["retrained"])
    others = add(finding for finding in gathered.remaining.values() if finding)
    retained = Value(None)
    if others:
        retained = score_attack.values_of(NAME, others["unlearned"], others["retrained"])[NAME]
    return {**values, f"{NAME}.retained": retained}


def _accuracy(unlearned: list[int], retrained: list[int]) -> Value:
    """Share of both models' samples put into the right world at even odds."""
    zero = RATIO_EDGES.index(0.0) + 1
    right = sum(unlearned[zero:]) / sum(unlearned) + sum(retrained[:zero]) / sum(retrained)
    return Value.rate(right / 2, sum(unlearned) + sum(retrained))
