from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from fedunlearn.audit.tpr_at import tpr_at
from fedunlearn.errors import DataError

bins = st.lists(st.integers(0, 30), min_size=8, max_size=8)


@given(bins, bins.filter(lambda counts: sum(counts) >= 100))
def test_is_the_best_point_of_either_curve_within_the_rate(members: list[int], nonmembers: list[int]) -> None:
    """scikit-learn draws the curve of every threshold between two bins."""
    if not sum(members):
        assert tpr_at(members, nonmembers, 0.1).value is None
        return
    truth = [1] * sum(members) + [0] * sum(nonmembers)
    scores = torch.arange(8).repeat_interleave(torch.tensor(members)).tolist()
    scores += torch.arange(8).repeat_interleave(torch.tensor(nonmembers)).tolist()
    best = 0.0
    for direction in (1, -1):
        false, true, _ = roc_curve(truth, [direction * score for score in scores], drop_intermediate=False)
        best = max(best, *(t for f, t in zip(false, true, strict=True) if f <= 0.1 + 1e-12))
    found = tpr_at(members, nonmembers, 0.1)
    assert found.value == pytest.approx(best) and found.of == sum(members) and found.kind == "rate"


def test_both_tails_give_members_away() -> None:
    nonmembers = [0, 50, 50, 0]
    assert tpr_at([0, 5, 5, 90], nonmembers, 0.1).value == 0.9
    assert tpr_at([90, 5, 5, 0], nonmembers, 0.1).value == 0.9


def test_the_rate_is_kept_where_a_threshold_would_split_a_bin() -> None:
    assert tpr_at([0, 100], [89, 11], 0.1).value == 0.0
    assert tpr_at([0, 100], [90, 10], 0.1).value == 1.0


@pytest.mark.parametrize(("nonmembers", "rate", "needed"), [(99, 0.1, 100), (999, 0.01, 1000), (9999, 0.001, 10000)])
def test_too_few_nonmembers_are_refused(nonmembers: int, rate: float, needed: int) -> None:
    refused = tpr_at([5, 5], [nonmembers, 0], rate)
    assert refused.value is None and f"needs {needed} non-members" in refused.refused
    assert tpr_at([5, 5], [nonmembers + 1, 0], rate).value is not None


def test_weights_that_add_up_but_for_rounding_count_as_whole() -> None:
    assert tpr_at([5, 5], [0.1, 99.9 - 1e-10], 0.1).value is not None


def test_different_bins_are_refused() -> None:
    with pytest.raises(DataError, match="2 and 3 bins"):
        tpr_at([1, 2], [1, 2, 3], 0.1)
