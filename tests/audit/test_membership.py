from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from fedunlearn.audit.loss_histogram import LOSS_EDGES, histogram
from fedunlearn.audit.membership import auc, match_classes, two_sided
from fedunlearn.errors import DataError

bins = st.lists(st.integers(0, 9), min_size=6, max_size=6).filter(any)


@given(bins, bins)
def test_is_the_share_of_pairs_won(members: list[int], nonmembers: list[int]) -> None:
    won = sum(
        a * b * (1.0 if i < j else 0.5 if i == j else 0.0)
        for i, a in enumerate(members)
        for j, b in enumerate(nonmembers)
    )
    expected = won / (sum(members) * sum(nonmembers))
    assert auc(members, nonmembers) == pytest.approx(expected)
    assert auc(nonmembers, members) == pytest.approx(1 - expected)


def test_equals_scikit_learn_on_losses_put_into_the_same_bins() -> None:
    generator = torch.Generator().manual_seed(0)
    inside = torch.rand(400, generator=generator, dtype=torch.float64) ** 3 + 1e-4
    outside = torch.rand(300, generator=generator, dtype=torch.float64) + 1e-4
    value = auc(histogram(inside), histogram(outside))
    losses = torch.cat([inside, outside])
    binned = torch.bucketize(losses, torch.tensor(LOSS_EDGES, dtype=torch.float64), right=True)
    truth = [1] * 400 + [0] * 300
    assert value == pytest.approx(roc_auc_score(truth, -binned))
    assert value == pytest.approx(roc_auc_score(truth, -losses), abs=0.005)


def test_withheld_or_empty_gives_no_number() -> None:
    assert auc(None, [1, 0]) is None
    assert auc([1, 0], None) is None
    assert auc([0, 0], [1, 0]) is None


def test_different_bins_are_refused() -> None:
    with pytest.raises(DataError, match="2 and 3 bins"):
        auc([1, 2], [1, 2, 3])


def test_two_sided_sees_an_overdone_forgetting() -> None:
    assert two_sided(0.1) == pytest.approx(0.9)
    assert two_sided(0.5) == 0.5
    assert two_sided(None) is None


def test_matched_classes_explain_nothing() -> None:
    # Class 0 always has low losses, class 1 high ones; the forget set holds three times as much of class 0.
    unseen = [[10, 0], [0, 40]]
    members = [75, 25]
    pooled = [10, 40]
    assert auc(members, pooled) == pytest.approx(0.775)
    matched = match_classes(unseen, [75, 25])
    assert matched == pytest.approx([75.0, 25.0])
    assert auc(members, matched) == pytest.approx(0.5)


def test_classes_without_unseen_samples_are_left_out() -> None:
    assert match_classes([[2, 0], [0, 0]], [5, 5]) == pytest.approx([5.0, 0.0])
    assert match_classes([[0, 0], [0, 0]], [5, 5]) is None
    assert match_classes([[1, 0]], [0]) is None
