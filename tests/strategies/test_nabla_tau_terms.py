from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.strategies.nabla_tau_terms import Terms, alpha_in, first_alpha, forget_passes, gated


def test_the_gate_by_hand() -> None:
    for loss, tau, value, slope in ((0.3, 1.0, 0.49, -1.4), (1.0, 1.0, 0.0, 0.0), (1.7, 1.0, 0.0, 0.0)):
        leaf = torch.tensor(loss, dtype=torch.float64, requires_grad=True)
        term = gated(leaf, tau)
        term.backward()
        assert term.item() == pytest.approx(value)
        assert leaf.grad is not None and leaf.grad.item() == pytest.approx(slope)


def test_alpha_begins_at_five_thirds_of_the_share_and_falls_to_nothing() -> None:
    assert [first_alpha(n, 50_000 - n) for n in (1_500, 7_500, 15_000)] == pytest.approx([0.05, 0.25, 0.5])
    assert first_alpha(40_000, 10_000) == 1.0
    assert [alpha_in(i, 4, 0.25) for i in range(4)] == [0.25, 0.1875, 0.125, 0.0625]


def test_passes_over_the_forget_set_are_the_authors() -> None:
    batches = [(math.ceil((50_000 - n) / 256), math.ceil(n / 256)) for n in (1_500, 7_500, 15_000)]
    assert batches == [(190, 6), (167, 30), (137, 59)]
    assert [forget_passes(*pair) for pair in batches] == [95, 16, 6]
    assert [forget_passes(*pair, 0.5) for pair in ((329, 11), (289, 51), (238, 102))] == [14, 2, 1]


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)).filter(any), min_size=1, max_size=8),
    st.floats(0, 0.99),
)
def test_clients_terms_add_up_to_the_terms_of_all(held: list[tuple[int, int]], alpha: float) -> None:
    forgotten, retained = (sum(column) for column in zip(*held, strict=True))
    if not forgotten or not retained:
        return
    terms = Terms(alpha, forgotten, retained)
    weights = [terms.weight(*one) for one in held]
    assert sum(weights) == pytest.approx(retained)
    of_forget = of_retain = 0.0
    for one, weight in zip(held, weights, strict=True):
        if weight:
            forget, retain = terms.coefficients(*one)
            assert forget + retain == pytest.approx(1)
            of_forget += weight * forget
            of_retain += weight * retain
    assert of_forget / retained == pytest.approx(alpha)
    assert of_retain / retained == pytest.approx(1 - alpha)
