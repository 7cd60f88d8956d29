"""Information reset: the weights that know most of the forget set get new values, and the federation retrains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from fedunlearn.audit.counts import MINIMUM_SAMPLES
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import ClientError
from fedunlearn.strategies.aggregation import average
from fedunlearn.strategies.federated.gauss_newton import gauss_newton_diagonal
from fedunlearn.strategies.federated.weight_vectors import flatten, weight_names, with_weights
from fedunlearn.strategies.method import (
    EVERY_SCOPE,
    ClientReply,
    ModelState,
    Need,
    Phase,
    Reply,
    Scope,
    State,
    Work,
    methods,
)
from fedunlearn.strategies.option import positive, whole
from fedunlearn.strategies.recovery import RECOVER, send_packed

SHARE = 0.1
"""Share of the weights that is reset."""
SAMPLES = 64
"""A client measures at most this many of its samples."""
FORGET = "forget:"


@dataclass(frozen=True)
class InformationReset:
    """Two measurements of information, the reset, and recovery rounds in which everything moves.

    Options: `share` of the weights that is reset (0.1), `samples` that a client measures at most (64).
    """

    name: str = "information-reset"
    source: str = (
        "Balordi et al. 2025, Tackling Federated Unlearning as a Parameter Estimation Problem (arXiv 2508.19065): "
        "second-order information of the forget set, reset, short retraining; reconstruction: Gauss-Newton for the "
        "Hessian, the ratio to the retained, the share, fresh values that the server draws, all weights retrained"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target", "class-scores"})
    options: frozenset[str] = frozenset({"share", "samples"})

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """Two queries, then `settings.rounds` recovery rounds."""
        share, most = positive(settings, "share", SHARE, 1.0), whole(settings, "samples", SAMPLES, MINIMUM_SAMPLES)

        def forgotten(work: Work) -> Reply:
            return measured(work, work.forget, most)

        def retained(work: Work) -> Reply:
            return measured(work, work.retain, most)

        def reset(state: State, replies: Sequence[ClientReply]) -> State:
            return _reset(state, replies, share)

        return [
            Phase("query.importance", "target", send_packed, forgotten, _keep),
            Phase("query.importance", "remaining", send_packed, retained, reset),
            *[RECOVER] * settings.rounds,
        ]


def measured(work: Work, samples: Samples, most: int) -> Reply:
    """The information that (a seeded part of) `samples` carries about every weight, in the place of the weights.

    Raises ClientError for fewer than 20 samples: their mean would say too much of each of them.
    """
    if len(samples) < MINIMUM_SAMPLES:
        raise ClientError(
            f"the client holds fewer than {MINIMUM_SAMPLES} samples of what is asked about and withholds their "
            "information; the others' serves without it."
        )
    samples = samples.some(most, work.generator)
    information = gauss_newton_diagonal(work.task, work.model, samples)
    held = {name: torch.zeros_like(tensor) for name, tensor in work.model.state_dict().items()}
    held.update({name: one.to(held[name].dtype) for name, one in information.items()})
    return Reply({name: tensor.numpy() for name, tensor in held.items()}, {"num-examples": len(samples)})


def reset_most_informed(
    model: ModelState,
    fresh: ModelState,
    names: Sequence[str],
    forgotten: Mapping[str, np.ndarray],
    retained: Mapping[str, np.ndarray],
    share: float,
) -> ModelState:
    """The model with the share of weights of highest forgotten / retained information at their fresh values.

    The ratio is regularised by the mean retained information, so that weights that nobody's data says anything about
    stay where they are (*reconstruction*); equal ratios keep the order of the weights.
    """
    of_forgotten, of_retained = (
        flatten({name: torch.from_numpy(one[name]) for name in names}, names) for one in (forgotten, retained)
    )
    floor = of_retained.mean().clamp_min(torch.finfo(torch.float64).tiny)
    ratio = of_forgotten / (of_retained + floor)
    chosen = ratio.argsort(descending=True, stable=True)[: round(share * len(ratio))]
    weights = flatten(model, names)
    weights[chosen] = flatten(fresh, names)[chosen]
    return with_weights(model, names, weights)


def _keep(state: State, replies: Sequence[ClientReply]) -> State:
    mean = average(state, replies).model
    return replace(state, arrays={f"{FORGET}{name}": tensor.numpy() for name, tensor in mean.items()})


def _reset(state: State, replies: Sequence[ClientReply], share: float) -> State:
    retained = {name: tensor.numpy() for name, tensor in average(state, replies).model.items()}
    forgotten = {name.removeprefix(FORGET): array for name, array in state.arrays.items()}
    # Buffers carry no information here: only what is trained is reset.
    names = weight_names(state.model, state.layout)
    model = reset_most_informed(state.model, state.fresh, names, forgotten, retained, share)
    return replace(state, model=model, arrays={})


methods.register("information-reset", InformationReset())
