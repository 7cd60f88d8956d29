"""The logit margin of a sample, log p_y - log(1 - p_y): what attacks with Gaussians work on (Carlini et al. 2022)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fedunlearn.audit.checks import same_length


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """log p_y - log(1 - p_y) of each sample, (N,), float64, finite however sure the model is.

    From the logits: z_y less the log-sum-exp of the others. The obvious form rounds 1 - p to zero from a margin of
    17 on (in float32), and every sure sample would be equally sure.

    Args:
        logits: N x K, K >= 2.
        labels: int64, (N,).
    """
    same_length(logits=logits, labels=labels)
    logits = logits.detach().double()
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return own.squeeze(1) - others.logsumexp(dim=1)


def of_losses(losses: Tensor) -> Tensor:
    """The margin that belongs to a log-loss, -log(exp(loss) - 1): falling in the loss, for any loss of 0 or more."""
    return -losses.detach().double().clamp_min(0).expm1().log()


def spread_edges(highest: float, finest: float, number: int) -> tuple[float, ...]:
    """Edges from -`highest` to `highest`, an odd `number` of them, `finest` wide near 0 and ever wider outside.

    The hyperbolic sine of equal steps. `finest` is the scale below which the width hardly shrinks any more.
    """
    half, last = number // 2, math.asinh(highest / finest)
    above = [finest * math.sinh(last * step / half) for step in range(1, half + 1)]
    return (*(-edge for edge in reversed(above)), 0.0, *above)


MARGIN_EDGES = spread_edges(30.0, 1.0, 399)
"""400 bins: 0.02 wide at a margin of 0, 0.05 at 2, 0.2 at 10."""
