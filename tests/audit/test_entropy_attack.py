from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from fedunlearn.audit.entropy_attack import EDGES, balanced_accuracy, combine, cross_validated, entropies, measure
from fedunlearn.audit.metric import Gathered, Sizes
from fedunlearn.audit.score_attack import score_bins
from fedunlearn.audit.subject import Subject


def test_entropy_is_scipys() -> None:
    logits = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)) * 4
    assert entropies(logits).numpy() == pytest.approx(entropy(logits.double().softmax(dim=1).numpy(), axis=1))
    assert entropies(torch.tensor([[900.0, 0.0]])).item() == 0.0


@pytest.mark.parametrize(("shift", "least"), [(1.0, 0.6), (3.0, 0.85)])
def test_bins_cost_no_accuracy(shift: float, least: float) -> None:
    """The same regression on every sample's entropy, in one place."""
    random = np.random.default_rng(0)
    inside = np.exp(random.normal(-2 - shift, 1, 500)).clip(0, 2.3)
    outside = np.exp(random.normal(-2, 1, 400)).clip(0, 2.3)
    exact = cross_validated(np.concatenate([inside, outside]), np.repeat([1, 0], [500, 400]), 7)
    binned = balanced_accuracy(*(score_bins(torch.from_numpy(-one), EDGES) for one in (inside, outside)), 7)
    assert binned == pytest.approx(exact, abs=0.02) and exact > least


def test_equal_worlds_are_told_apart_by_chance_only() -> None:
    """A retrained model's accuracy is 0.5 within two standard errors, 2 x 0.5 / sqrt(2 n)."""
    random = np.random.default_rng(1)
    found = []
    for seed in range(20):
        worlds = [score_bins(torch.from_numpy(-random.gamma(1, 0.3, 400)), EDGES) for _ in range(2)]
        found.append(abs(balanced_accuracy(*worlds, seed) - 0.5))
    assert sum(gap <= 1 / np.sqrt(800) for gap in found) >= 17


def test_weighted_bins_are_rounded_to_their_sum() -> None:
    outside = [0.0] * len(EDGES) + [0.4]
    outside[:4] = [10.4, 10.3, 0.2, 9.7]
    inside = [30] + [0] * len(EDGES)
    assert 0.0 <= balanced_accuracy(inside, outside, 0) <= 1.0


def test_values_of_a_real_model(target: Subject, server: Subject) -> None:
    generator = torch.Generator().manual_seed(0)
    gathered = Gathered(target.sizes, {0: measure(target, generator)}, server=measure(server, generator))
    values = combine(gathered)
    assert values["entropy_attack"].value is not None and 0.5 < values["entropy_attack"].value < 1
    assert values == combine(gathered)
    few = Gathered(Sizes(10), {0: {"members": [25] + [0] * 300, "total": [25] + [0] * 9, "outside": [19] + [0] * 300}})
    assert "to train its regression on" in combine(few)["entropy_attack"].refused
    assert "ordinary samples" in combine(Gathered(Sizes(10), {0: {}}))["entropy_attack"].refused
