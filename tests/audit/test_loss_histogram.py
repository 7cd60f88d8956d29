from __future__ import annotations

import itertools
import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.audit.loss_histogram import BINS, LOSS_EDGES, histogram, histogram_by_class


def test_edges_are_fixed_and_log_spaced() -> None:
    assert (LOSS_EDGES[0], LOSS_EDGES[-1], len(LOSS_EDGES), BINS) == (1e-6, 30.0, 119, 120)
    steps = [math.log(b / a) for a, b in itertools.pairwise(LOSS_EDGES)]
    assert max(steps) - min(steps) < 1e-9


@given(st.lists(st.floats(0, 100, width=32), min_size=20, max_size=60))
def test_every_loss_is_in_the_bin_between_its_edges(losses: list[float]) -> None:
    expected = [0] * BINS
    for value in losses:
        expected[sum(1 for edge in LOSS_EDGES if edge <= value)] += 1
    assert histogram(torch.tensor(losses, dtype=torch.float64)) == expected


def test_extremes_and_broken_losses_have_a_bin() -> None:
    bins = histogram(torch.tensor([0.0, 5e-7, 1e-6, 30.0, math.inf, math.nan], dtype=torch.float64), minimum=6)
    assert bins is not None
    assert bins[0] == 2 and bins[-1] == 3 and sum(bins) == 6


def test_fewer_than_twenty_are_withheld() -> None:
    assert histogram(torch.ones(19)) is None
    assert sum(histogram(torch.ones(20)) or []) == 20


def test_by_class_splits_the_whole() -> None:
    losses = torch.rand(50, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50) % 3
    rows = histogram_by_class(losses, labels, classes=4)
    assert [sum(column) for column in zip(*rows, strict=True)] == histogram(losses)
    assert [sum(row) for row in rows] == [17, 17, 16, 0]
