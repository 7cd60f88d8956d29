from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.audit.error_histogram import BINS, ERROR_EDGES, HIGHEST, LOWEST, histogram, mean, quantile, share_above
from fedunlearn.errors import DataError

WIDTH = ERROR_EDGES[1] / ERROR_EDGES[0]
some_errors = st.lists(st.floats(LOWEST, HIGHEST * 0.99), min_size=1, max_size=200)


@given(some_errors, some_errors, st.floats(0.01, 1.0))
def test_the_quantile_of_pooled_histograms_is_that_of_the_sorted_errors(one, other, share) -> None:
    pooled = [a + b for a, b in zip(histogram(torch.tensor(one)), histogram(torch.tensor(other)), strict=True)]
    ordered = sorted([*torch.tensor(one).tolist(), *torch.tensor(other).tolist()])
    exact = ordered[max(0, math.ceil(share * len(ordered) * (1 - 1e-12)) - 1)]
    assert exact <= quantile(pooled, share) <= max(exact * WIDTH, LOWEST) * (1 + 1e-9)


@given(some_errors, st.integers(0, len(ERROR_EDGES) - 1))
def test_the_share_above_an_edge_is_counted_exactly(errors, index) -> None:
    above = sum(error > ERROR_EDGES[index] for error in torch.tensor(errors).double().tolist())
    assert share_above(histogram(torch.tensor(errors)), ERROR_EDGES[index]) == pytest.approx(above / len(errors))


def test_every_error_has_a_bin() -> None:
    counts = histogram(torch.tensor([0.0, LOWEST, 0.5, HIGHEST, 1e6, math.inf, math.nan]))
    assert len(counts) == BINS and sum(counts) == 7
    assert counts[0] == 2 and counts[-1] == 3


def test_a_quantile_that_does_not_exist_is_refused() -> None:
    with pytest.raises(DataError, match="no error"):
        quantile([0] * BINS, 0.95)
    with pytest.raises(DataError, match="not finite"):
        quantile(histogram(torch.tensor([0.1, math.nan])), 0.95)


@given(some_errors)
def test_the_mean_is_right_to_half_a_bin(errors) -> None:
    exact = torch.tensor(errors).double().mean().item()
    assert mean(histogram(torch.tensor(errors))) == pytest.approx(exact, rel=WIDTH - 1, abs=LOWEST)


def test_no_error_at_all_is_none() -> None:
    assert mean(histogram(torch.zeros(30))) == 0.0
