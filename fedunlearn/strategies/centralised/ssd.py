"""Selective synaptic dampening: weights that matter much more to the forget set than to everything are made smaller."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from fedunlearn.audit.counts import MINIMUM_SAMPLES
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.strategies.by_role import KeepMean, kept, without_kept
from fedunlearn.strategies.centralised.importance import check_enough, mean_gradients, told
from fedunlearn.strategies.method import EVERY_SCOPE, Need, Phase, Reply, Scope, State, Work, methods
from fedunlearn.strategies.option import choice, positive
from fedunlearn.strategies.recovery import send_packed

SELECTION, DAMPENING = 2.0, 1.0


@dataclass(frozen=True)
class SelectiveSynapticDampening:
    """Two queries and a closed form at the server, no rounds.

    F, the importance of a weight, is its mean squared gradient. Where F(forget set) > `selection` x F(all data), the
    weight is multiplied by min(`dampening` x F(all data) / F(forget set), 1).

    Options: `selection` (alpha in the paper, default 2), `dampening` (lambda, default 1), and `gradients`: "batch"
    (squares of the gradients of batches, as in the authors' code) or "sample". The authors' alpha of 10 is meant for
    forget sets of a hundredth of the data: F(all data) holds the forget set's own part, so that with a share s of the
    data no ratio of the two exceeds 1 / s.
    """

    name: str = "ssd"
    source: str = (
        "Foster et al. 2024, arXiv 2308.07707; reconstruction: importances are averaged over the clients by their "
        "numbers of samples"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target"})
    earnest: bool = False
    options: frozenset[str] = frozenset({"selection", "dampening", "gradients"})

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """The forget set's importance from the targets, then everything's from all."""
        positive(settings, "selection", SELECTION)
        positive(settings, "dampening", DAMPENING)
        choice(settings, "gradients", ("batch", "sample"))
        return [
            Phase("query.importance", "target", send_packed, _of_forget_set, KeepMean(name="forget")),
            Phase("query.importance", "all", send_packed, _of_everything, KeepMean(name="all", then=_dampened)),
        ]


def _of_forget_set(work: Work) -> Reply:
    check_enough(work.forget, "forgotten")
    return _importance(work, work.forget)


def _of_everything(work: Work) -> Reply:
    # Of few retained samples the difference to what was said of the forget set would tell.
    told_apart = len(work.forget) >= MINIMUM_SAMPLES > len(work.retain)
    samples = work.forget if told_apart else Samples.concat([work.forget, work.retain])
    check_enough(samples, "training")
    return _importance(work, samples)


def _importance(work: Work, samples: Samples) -> Reply:
    started = time.monotonic()
    size = 1 if choice(work.settings, "gradients", ("batch", "sample")) == "sample" else work.training.batch_size
    return told(work, mean_gradients(work, samples, size, power=2), len(samples), started)


def dampen(
    weight: np.ndarray, forget: np.ndarray, everything: np.ndarray, selection: float, dampening: float
) -> np.ndarray:
    """The weights after dampening; four arrays of one shape."""
    selected = forget > selection * everything
    ratio = np.divide(dampening * everything, forget, out=np.ones_like(forget), where=selected)
    return np.where(selected, weight * np.minimum(ratio, 1), weight).astype(weight.dtype)


def _dampened(state: State) -> State:
    selection = positive(state.settings, "selection", SELECTION)
    dampening = positive(state.settings, "dampening", DAMPENING)
    forget, everything = kept(state, "forget"), kept(state, "all")
    model = dict(state.model)
    for name, weight in state.packed().items():
        if weight.dtype.kind == "f":
            model[name] = torch.from_numpy(dampen(weight, forget[name], everything[name], selection, dampening))
    return replace(without_kept(state, "forget", "all"), model=model)


methods.register("ssd", SelectiveSynapticDampening())
