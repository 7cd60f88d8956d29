from __future__ import annotations

import torch
from torch import Tensor

from fedunlearn.strategies.federated.curvature import hessian_vector_product


def dense(steps: Tensor, changes: Tensor) -> Tensor:
    """The same matrix by the BFGS update, one pair after the other."""
    matrix = (steps[-1] @ changes[-1]) / (steps[-1] @ steps[-1]) * torch.eye(steps.shape[1], dtype=torch.float64)
    for s, y in zip(steps, changes, strict=True):
        moved = matrix @ s
        matrix = matrix - torch.outer(moved, moved) / (s @ moved) + torch.outer(y, y) / (y @ s)
    return matrix


def quadratic(size: int, seed: int) -> tuple[Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return root @ root.T + torch.eye(size, dtype=torch.float64), generator


def test_it_is_the_dense_update_without_the_matrix() -> None:
    hessian, generator = quadratic(6, 0)
    for pairs in (1, 2, 4):
        steps = torch.randn(pairs, 6, generator=generator, dtype=torch.float64)
        changes = steps @ hessian
        vector = torch.randn(6, generator=generator, dtype=torch.float64)
        assert torch.allclose(hessian_vector_product(steps, changes, vector), dense(steps, changes) @ vector)


def test_on_a_quadratic_the_last_step_is_answered_exactly() -> None:
    hessian, generator = quadratic(5, 1)
    steps = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    found = hessian_vector_product(steps, steps @ hessian, steps[-1])
    assert torch.allclose(found, hessian @ steps[-1])


def test_on_a_quadratic_with_steps_along_its_axes_every_step_is_answered_exactly() -> None:
    hessian, _ = quadratic(4, 2)
    steps = torch.linalg.eigh(hessian).eigenvectors.T
    vector = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    assert torch.allclose(hessian_vector_product(steps, steps @ hessian, vector), hessian @ vector)


def test_pairs_without_curvature_are_left_out() -> None:
    step = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    change = torch.tensor([[2.0, 0.0], [0.0, -3.0]])
    assert torch.equal(
        hessian_vector_product(step, change, torch.ones(2)), hessian_vector_product(step[:1], change[:1], torch.ones(2))
    )
    assert hessian_vector_product(step[1:], change[1:], torch.ones(2)).tolist() == [0.0, 0.0]
    assert hessian_vector_product(step[:0], change[:0], torch.ones(2)).tolist() == [0.0, 0.0]


def test_two_equal_steps_are_no_trouble() -> None:
    step = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    found = hessian_vector_product(step, 2 * step, torch.tensor([1.0, 0.0]))
    assert torch.allclose(found, torch.tensor([2.0, 0.0]))
