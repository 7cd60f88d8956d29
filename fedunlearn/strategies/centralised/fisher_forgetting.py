"""Fisher forgetting: noise on every weight, the more the less the retained data need the weight."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedunlearn.config import UnlearnSettings
from fedunlearn.randomness import derive_seed
from fedunlearn.strategies.by_role import KeepMean, kept, without_kept
from fedunlearn.strategies.centralised.importance import check_enough, fisher_diagonal, is_weight, told
from fedunlearn.strategies.method import EVERY_SCOPE, Need, Phase, Reply, Scope, State, Work, methods
from fedunlearn.strategies.option import positive, whole
from fedunlearn.strategies.recovery import send_packed

ALPHA = 3e-6
SAMPLES = 64
SMALLEST = 1e-8
HIGHEST, HIGHEST_OF_OUTPUT = 1e3, 1e2
"""Bounds of 1 / F, of the output layer and elsewhere, as in public code."""
LOUDER = 10.0
"""How many times the variance of the output layer and of vectors (biases, normalisation) is that of the rest."""


@dataclass(frozen=True)
class FisherForgetting:
    """One query and a closed form at the server, no rounds: every weight gets noise of variance alpha / F.

    F is the diagonal of the Fisher information on the retained data, averaged over clients. 1 / F is bounded, and the
    mean of it over the weights of a filter is used for all of them. The noise is seeded by the branch.

    Options: `alpha` (default 3e-6) and `samples` (default 64), how many retained samples a client measures.
    """

    name: str = "fisher-forgetting"
    source: str = (
        "Golatkar et al. 2020, arXiv 1911.04933; bounds and filter means as in public code; reconstruction: the Fisher "
        "information is averaged over clients"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"class-scores"})
    earnest: bool = False
    options: frozenset[str] = frozenset({"alpha", "samples"})

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """One query."""
        positive(settings, "alpha", ALPHA)
        whole(settings, "samples", SAMPLES, lowest=20)
        keep = KeepMean(name="fisher", then=_with_noise)
        return [Phase("query.importance", "remaining", send_packed, _measure, keep)]


def _measure(work: Work) -> Reply:
    check_enough(work.retain, "retained")
    started = time.monotonic()
    samples = work.retain.some(whole(work.settings, "samples", SAMPLES, lowest=20), work.generator)
    return told(work, fisher_diagonal(work, samples), len(samples), started)


def variance(fisher: Tensor, alpha: float, output: bool) -> Tensor:
    """The variance of the noise on each weight of one tensor, of its shape.

    Args:
        fisher: the diagonal of the Fisher information, 0 or more.
        output: whether it belongs to the output layer.
    """
    inverse = (1 / (fisher + SMALLEST)).clamp_max(HIGHEST_OF_OUTPUT if output else HIGHEST)
    if fisher.dim() > 1:
        inverse = inverse.flatten(1).mean(dim=1).view(-1, *[1] * (fisher.dim() - 1)).expand_as(fisher)
    return alpha * (LOUDER if output or fisher.dim() == 1 else 1.0) * inverse


def _with_noise(state: State) -> State:
    alpha, fisher = positive(state.settings, "alpha", ALPHA), kept(state, "fisher")
    generator = torch.Generator().manual_seed(derive_seed(state.seed, "fisher"))
    model = {}
    for name, tensor in state.model.items():
        if not is_weight(name, tensor):
            model[name] = tensor
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        spread = variance(torch.from_numpy(fisher[name]), alpha, name in state.layout.output).sqrt()
        model[name] = tensor + (spread * noise).to(tensor.dtype)
    return replace(without_kept(state, "fisher"), model=model)


methods.register("fisher-forgetting", FisherForgetting())
