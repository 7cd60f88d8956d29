from __future__ import annotations

import math

import pytest
import torch

from fedunlearn.strategies.bounded_training import adamw, adaptive_weights, shrink_groups


def test_the_proximal_step_by_hand() -> None:
    first = torch.nn.Parameter(torch.tensor([3.0, 0.0]))
    second = torch.nn.Parameter(torch.tensor([[4.0]]))
    alone = torch.nn.Parameter(torch.tensor([0.2]))
    optimizer = adamw([first, second, alone], rate=0.1)
    for leaf, gradient in ((first, [1.0, 1.0]), (second, [[1.0]]), (alone, [0.5])):
        leaf.grad = torch.tensor(gradient)
    optimizer.step()
    # AdamW's first step is the rate times the sign, and weights decay by 0.05 x the rate.
    stepped = [3.0 * 0.995 - 0.1, -0.1, 4.0 * 0.995 - 0.1]
    assert [*first.tolist(), float(second.detach())] == pytest.approx(stepped, abs=1e-5)
    shrink_groups([[first, second], [alone]], optimizer, [2.0, 1.0])
    # The root of the mean squared gradient is 1 in the one group and 0.5 in the other.
    factor = 1 - 2.0 * 0.1 / math.sqrt(sum(value**2 for value in stepped))
    assert [*first.tolist(), float(second.detach())] == pytest.approx([factor * v for v in stepped], abs=1e-5)
    assert alone.tolist() == [0.0]


def test_a_group_without_any_gradient_is_left_as_it_is() -> None:
    """Once all losses of a target that keeps nothing are beyond the bound: it must not undo what it has forgotten."""
    weight = torch.nn.Parameter(torch.ones(4))
    optimizer = adamw([weight], rate=0.1)
    weight.grad = torch.zeros(4)
    optimizer.step()
    shrink_groups([[weight]], optimizer, [0.01])
    assert weight.tolist() == pytest.approx([1 - 0.05 * 0.1] * 4)


def test_no_sparsity_leaves_everything_as_it_is() -> None:
    leaf = torch.nn.Parameter(torch.ones(2))
    shrink_groups([[leaf]], adamw([leaf], rate=0.1), [0.0])
    assert leaf.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("sparsity", "stays"), [(0.9, True), (1.1, False)])
def test_a_group_at_zero_stays_there_when_its_gradient_is_below_the_sparsity(sparsity: float, stays: bool) -> None:
    """The condition of the group lasso, through AdamW's own scale."""
    weight = torch.nn.Parameter(torch.zeros(4))
    optimizer = adamw([weight], rate=0.01)
    for _ in range(3):
        weight.grad = torch.full((4,), 0.5)  # of norm 1
        optimizer.step()
        shrink_groups([[weight]], optimizer, [sparsity])
    assert bool(weight.any()) is stays


def test_smaller_groups_weigh_more_and_their_mean_is_the_measure() -> None:
    groups = [[torch.tensor([3.0]), torch.tensor([[4.0]])], [torch.tensor([1.0])], [torch.zeros(2)]]
    # Norms 5, 1 and 0, of mean 2; a group at zero has no norm to be held against.
    assert adaptive_weights(groups, 0.3) == pytest.approx([0.3 * 2 / 5, 0.3 * 2, 0.3])
    assert adaptive_weights([[torch.zeros(2)], [torch.zeros(1)]], 0.3) == [0.3, 0.3]
    assert adaptive_weights(groups, 0.0)[:2] == [0.0, 0.0]
