from __future__ import annotations

import math

import pytest
import torch

from fedunlearn.strategies.bounded_terms import Bounds, below, divergences, forget_term, losses_among, retain_term


def test_the_gate_has_no_gradient_from_the_bound_on() -> None:
    losses = torch.tensor([1.0, 6.0, 9.0], requires_grad=True)
    below(losses, 6.0).backward()
    assert losses.grad is not None
    # d/dx of mean(relu(6 - x)) is -1/3 below the bound and nothing at it or above.
    assert losses.grad.tolist() == pytest.approx([-1 / 3, 0.0, 0.0])


def test_the_batch_form_gates_the_mean() -> None:
    losses = torch.tensor([1.0, 13.0], requires_grad=True)
    assert float(below(losses, 6.0, by_sample=False)) == 0.0
    assert float(below(losses, 6.0)) == pytest.approx(2.5)
    below(losses, 8.0, by_sample=False).backward()
    assert losses.grad is not None and losses.grad.tolist() == pytest.approx([-0.5, -0.5])


def test_a_class_that_is_gone_is_no_place_to_go_to() -> None:
    logits = torch.tensor([[math.log(2.0), math.log(3.0), math.log(5.0)]])
    label, none, last = torch.tensor([0]), torch.zeros(3, dtype=torch.bool), torch.tensor([False, False, True])
    assert losses_among(logits, label, none).tolist() == pytest.approx([-math.log(0.2)])
    assert torch.allclose(losses_among(logits, label, none), torch.nn.functional.cross_entropy(logits, label))
    assert losses_among(logits, label, last).tolist() == pytest.approx([-math.log(0.7)])
    assert losses_among(logits, label, ~none).tolist() == pytest.approx([0.0])
    # Raising it lowers the logit of the class that is gone as well.
    leaf = logits.clone().requires_grad_()
    losses_among(leaf, label, last).sum().backward()
    assert leaf.grad is not None and leaf.grad[0].tolist() == pytest.approx([0.2 - 2 / 7, 0.3, 0.5 - 5 / 7])


def test_divergence_by_hand() -> None:
    wanted = torch.tensor([[math.log(3.0), 0.0]])
    shown = torch.tensor([[0.0, 0.0]])
    # KL((3/4, 1/4) || (1/2, 1/2))
    by_hand = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert divergences(wanted, shown).tolist() == pytest.approx([by_hand])
    assert divergences(shown, shown).tolist() == pytest.approx([0.0])


def test_both_terms_by_hand() -> None:
    losses = torch.tensor([1.0, 5.0])
    prototypes = torch.tensor([[math.log(3.0), 0.0]] * 2)
    features = torch.zeros(2, 2)
    apart = float(divergences(prototypes, features)[0])
    bounds = Bounds(4.0, push=0.5, push_bound=2.0, pull=0.1)
    assert float(forget_term(losses, features, prototypes, bounds)) == pytest.approx(1.5 + 0.5 * (2.0 - apart))
    known = torch.tensor([True, False])
    assert float(retain_term(losses, features, prototypes, known, bounds)) == pytest.approx(3.0 + 0.1 * apart / 2)


def test_without_prototypes_the_terms_are_the_losses_alone() -> None:
    losses, nothing = torch.tensor([1.0, 5.0]), torch.full((2, 2), torch.nan)
    bounds = Bounds(4.0)
    assert float(forget_term(losses, nothing, nothing, bounds)) == pytest.approx(1.5)
    assert float(retain_term(losses, nothing, nothing, torch.zeros(2, dtype=torch.bool), bounds)) == 3.0
