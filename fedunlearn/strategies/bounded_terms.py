"""The terms of GS-LoRA and GS-LoRA++: losses raised to a bound, and features kept near or driven off a mean."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Bounds:
    """What is asked of forgotten samples, and how much each part counts.

    Attributes:
        loss: from which on a forgotten sample has no gradient, in nats.
        by_sample: each sample is held against the bound; else the batch's mean is, as the authors do.
        push: weight of driving forgotten features off their class's mean, relative to the forget loss; 0: not at all.
        push_bound: divergence from which on that ends, in nats.
        pull: weight of keeping retained features near their class's mean; 0: not at all.
    """

    loss: float
    by_sample: bool = True
    push: float = 0.0
    push_bound: float = 18.0
    pull: float = 0.0


def below(values: Tensor, bound: float, by_sample: bool = True) -> Tensor:
    """How far values are below the bound, on average; without gradient from the bound on.

    Args:
        values: N, one or more.
        by_sample: mean of relu(bound - value); else relu(bound - mean of the values).
    """
    return functional.relu(bound - values).mean() if by_sample else functional.relu(bound - values.mean())


def losses_among(logits: Tensor, labels: Tensor, gone: Tensor) -> Tensor:
    """-log of the probability that a sample is answered by its own class or by any class that is gone, N, in nats.

    Where none is gone it is the cross-entropy. *Reconstruction*: raised to a bound, the cross-entropy alone is content
    with samples that come to be answered by a class which was forgotten before, and that class is then known again.

    Args:
        logits: N x K. labels: N.
        gone: K, whether the class is to be nobody's answer any more.
    """
    closed = gone | functional.one_hot(labels, logits.shape[1]).bool()
    return logits.logsumexp(dim=1) - logits.masked_fill(~closed, -torch.inf).logsumexp(dim=1)


def divergences(prototypes: Tensor, features: Tensor) -> Tensor:
    """KL(softmax(prototype) || softmax(feature)) of each row, N, in nats.

    Args:
        prototypes: N x D, the class mean that each feature is held against.
        features: N x D.
    """
    wanted, shown = functional.log_softmax(prototypes, dim=1), functional.log_softmax(features, dim=1)
    return functional.kl_div(shown, wanted, reduction="none", log_target=True).sum(dim=1)


def forget_term(losses: Tensor, features: Tensor, prototypes: Tensor, bounds: Bounds) -> Tensor:
    """relu(bound - loss) + push x relu(push bound - divergence), over a batch to forget.

    Args:
        losses: N. features: N x D. prototypes: N x D, of the class of each sample.
    """
    term = below(losses, bounds.loss, bounds.by_sample)
    if bounds.push:
        apart = divergences(prototypes, features)
        term = term + bounds.push * below(apart, bounds.push_bound, bounds.by_sample)
    return term


def retain_term(losses: Tensor, features: Tensor, prototypes: Tensor, known: Tensor, bounds: Bounds) -> Tensor:
    """Mean loss + pull x mean divergence, over a retained batch.

    Args:
        losses: N. features: N x D. prototypes: N x D.
        known: N, whether there is a prototype of the sample's class; without one it counts as no divergence.
    """
    term = losses.mean()
    if bounds.pull and bool(known.any()):
        apart = torch.where(known, divergences(prototypes, features), torch.zeros_like(losses))
        term = term + bounds.pull * apart.mean()
    return term
