"""The product of an approximate Hessian and a vector, from differences of models and of gradients (L-BFGS)."""

from __future__ import annotations

import torch
from torch import Tensor

FLATTEST = 1e-8
"""Least curvature, relative to the squared length of the step, that a pair must show; others say nothing of a Hessian
that could be approximated."""


def hessian_vector_product(steps: Tensor, changes: Tensor, vector: Tensor) -> Tensor:
    """B v, P, with B the compact L-BFGS approximation of the Hessian (Byrd, Nocedal and Schnabel 1994).

    Pairs without positive curvature are left out; with none left B is 0.

    Args:
        steps: M x P, differences of the models, oldest first.
        changes: M x P, differences of the gradients at them.
        vector: P.
    """
    steps, changes, v = steps.double(), changes.double(), vector.double()
    along = (steps * changes).sum(1)
    sound = along > FLATTEST * (steps * steps).sum(1)
    steps, changes = steps[sound], changes[sound]
    if not len(steps):
        return torch.zeros_like(vector)
    between = steps @ changes.T
    lower, diagonal = between.tril(-1), between.diagonal().diag()
    scale = between[-1, -1] / (steps[-1] @ steps[-1])
    middle = torch.cat([torch.cat([-diagonal, lower.T], 1), torch.cat([lower, scale * steps @ steps.T], 1)])
    right = torch.cat([changes @ v, scale * steps @ v])
    weights = torch.linalg.lstsq(middle, right[:, None], driver="gelsd").solution[:, 0]
    left = torch.cat([changes, scale * steps])
    return (scale * v - weights @ left).to(vector.dtype)
