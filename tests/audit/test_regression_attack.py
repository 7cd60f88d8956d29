from __future__ import annotations

import numpy as np
import pytest
import torch

from fedunlearn.audit.entropy_attack import EDGES
from fedunlearn.audit.regression_attack import balanced_accuracy, centres, cross_validated
from fedunlearn.audit.score_attack import score_bins

CENTRES = centres(EDGES)


def test_open_bins_stand_at_their_edge() -> None:
    assert centres([0.0, 1.0, 3.0]).tolist() == [0.0, 0.5, 2.0, 3.0]


@pytest.mark.parametrize(("shift", "least"), [(1.0, 0.6), (3.0, 0.85)])
def test_bins_cost_no_accuracy(shift: float, least: float) -> None:
    """The same regression on every sample's entropy, in one place."""
    random = np.random.default_rng(0)
    inside = np.exp(random.normal(-2 - shift, 1, 500)).clip(0, 2.3)
    outside = np.exp(random.normal(-2, 1, 400)).clip(0, 2.3)
    exact = cross_validated(np.concatenate([inside, outside]), np.repeat([1, 0], [500, 400]), 7)
    binned = balanced_accuracy(*(score_bins(torch.from_numpy(-one), EDGES) for one in (inside, outside)), CENTRES, 7)
    assert binned == pytest.approx(exact, abs=0.02) and exact > least


def test_equal_worlds_are_told_apart_by_chance_only() -> None:
    """A retrained model's accuracy is 0.5 within two standard errors, 2 x 0.5 / sqrt(2 n)."""
    random = np.random.default_rng(1)
    found = []
    for seed in range(20):
        worlds = [score_bins(torch.from_numpy(-random.gamma(1, 0.3, 400)), EDGES) for _ in range(2)]
        found.append(abs(balanced_accuracy(*worlds, CENTRES, seed) - 0.5))
    assert sum(gap <= 1 / np.sqrt(800) for gap in found) >= 17


def test_weighted_bins_are_rounded_to_their_sum() -> None:
    outside = [0.0] * len(EDGES) + [0.4]
    outside[:4] = [10.4, 10.3, 0.2, 9.7]
    inside = [30] + [0] * len(EDGES)
    assert 0.0 <= balanced_accuracy(inside, outside, CENTRES, 0) <= 1.0
