from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.audit.margin import MARGIN_EDGES, margins, of_losses, spread_edges
from fedunlearn.errors import DataError


def test_is_the_log_odds_of_the_label() -> None:
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(50) % 7
    shares = logits.softmax(dim=1).gather(1, labels[:, None]).squeeze(1)
    assert torch.allclose(margins(logits, labels), (shares / (1 - shares)).log())


def test_sure_samples_stay_apart() -> None:
    """1 - p in float32, as public code has it, is zero for both."""
    logits = torch.tensor([[20.0, 0.0], [40.0, 0.0], [0.0, 200.0]])
    labels = torch.tensor([0, 0, 0])
    assert margins(logits, labels).tolist() == [20.0, 40.0, -200.0]
    shares = logits.softmax(dim=1)[:2, 0]
    assert (1 - shares == 0).all()


@given(st.floats(-30, 15))
def test_of_a_log_loss_it_is_the_same(margin: float) -> None:
    loss = math.log1p(math.exp(-margin))
    assert float(of_losses(torch.tensor([loss], dtype=torch.float64))) == pytest.approx(margin, abs=1e-6)


def test_extreme_losses_keep_their_order() -> None:
    found = of_losses(torch.tensor([0.0, 1e-7, 1.0, 100.0, 1e9, torch.inf]))
    assert found[0] == torch.inf and found[-1] == found[-2] == -torch.inf
    assert (found[:-2] > found[1:-1]).all()


def test_edges_are_narrow_where_margins_are_small() -> None:
    widths = [high - low for low, high in pairwise(MARGIN_EDGES)]
    assert len(MARGIN_EDGES) == 399 and MARGIN_EDGES[199] == 0.0
    assert MARGIN_EDGES[0] == pytest.approx(-30) and MARGIN_EDGES[-1] == pytest.approx(30)
    assert min(widths) == pytest.approx(0.0206, abs=1e-4) and max(widths) < 0.65
    assert tuple(-edge for edge in reversed(MARGIN_EDGES)) == MARGIN_EDGES
    assert spread_edges(8.0, 2.0, 3) == pytest.approx((-8.0, 0.0, 8.0))


def test_one_label_a_sample() -> None:
    with pytest.raises(DataError, match="2 logits, 3 labels"):
        margins(torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64))
