from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from fedunlearn.audit import lira
from fedunlearn.audit.lira import deviations, margins_of, offline_scores
from fedunlearn.audit.metric import Gathered, metrics
from fedunlearn.audit.subject import Subject

OWN = torch.linspace(-3, 6, 40, dtype=torch.float64)


def worlds(models: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(models)
    spread = torch.rand(40, generator=generator, dtype=torch.float64) + 0.2
    return torch.randn(models, 40, generator=generator, dtype=torch.float64) * spread + torch.linspace(-2, 2, 40)


def test_with_many_models_it_is_the_gaussians_distribution_function() -> None:
    """One minus the chance that a model without the sample has a larger margin, as scipy computes it."""
    without = worlds(64)
    expected = norm.cdf(OWN.numpy(), without.mean(dim=0).numpy(), without.std(dim=0).numpy())
    assert norm.cdf(offline_scores(OWN, without).numpy()) == pytest.approx(expected)


def test_with_few_models_the_order_is_that_of_one_deviation_for_all() -> None:
    without = worlds(8)
    expected = norm.cdf(OWN.numpy(), without.mean(dim=0).numpy(), 0.7)
    assert (np.argsort(offline_scores(OWN, without).numpy()) == np.argsort(expected)).all()


def test_the_common_deviation_is_that_within_samples() -> None:
    """Public code takes the deviation over samples and models at once; here that would be mostly the samples'."""
    without = worlds(8) + 100 * torch.arange(40)
    expected = np.sqrt(np.var(without.numpy(), axis=0, ddof=1).mean())
    assert deviations(without).numpy() == pytest.approx(np.full(40, expected))
    assert without.std() > 100 * expected
    assert torch.equal(deviations(worlds(64)), worlds(64).std(dim=0))
    assert deviations(torch.zeros(64, 2, dtype=torch.float64)).tolist() == [1e-3, 1e-3]


def test_what_all_models_find_hard_is_no_sign_of_membership(target: Subject, server: Subject) -> None:
    generator = torch.Generator().manual_seed(0)
    found = {name: value for name, value in lira.measure(target, generator).items() if name != "outside"}
    values = lira.combine(Gathered(target.sizes, {0: found}, server=lira.measure(server, generator)))
    scores = []
    for side, samples in ((target, target.forget), (server, server.held_out)):
        (own,) = margins_of(side, (side.model,), samples)
        scores.append(own - margins_of(side, side.references, samples).mean(dim=0))
    labels = server.held_out.labels
    weights = (target.forget.labels.bincount(minlength=10) / labels.bincount(minlength=10))[labels]
    truth = torch.cat([torch.ones(200), torch.zeros(len(labels))])
    exact = roc_auc_score(truth, torch.cat(scores), sample_weight=torch.cat([torch.ones(200), weights]))
    assert values["lira_auc"].value == pytest.approx(exact, abs=values["lira_auc.binning"].value)
    assert values["lira_auc.binning"].value < 0.02


def test_too_few_models_are_refused_with_a_reason() -> None:
    metric = metrics.get("lira_auc")
    refused = metric.lacking({"references": 3})
    assert refused is not None and "4 retrained reference models and was given 3" in refused
    assert metric.lacking({"references": 4}) is None
