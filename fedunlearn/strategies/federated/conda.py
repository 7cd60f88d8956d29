"""ConDa: parameters to which the target contributed more than its share are dampened; nobody trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.federated.stored_rounds import at_the_server, flat, unflat
from fedunlearn.strategies.method import Need, Phase, Scope, State, TrainingHook, methods
from fedunlearn.strategies.option import positive

DEFAULTS = {"cutoff": 0.5, "lambda": 0.5, "upper": 0.5}
"""As in the authors' code, from memory."""

KEEP = TrainingHook(keep_updates_every=1)


@dataclass(frozen=True)
class ConDa:
    """Compare what each side contributed to each parameter over all rounds, and shrink what is mostly the target's.

    Options: `cutoff` (parameters whose ratio of the others' to the target's contribution is below it are dampened),
    `lambda` and `upper` (they are multiplied by lambda x ratio, and at most by upper).
    """

    name: str = "conda"
    source: str = (
        "Chundawat et al. 2024 (ConDa); reconstruction: contributions of several clients are averaged, so that the "
        "ratio does not grow with their number"
    )
    scopes: frozenset[Scope] = frozenset({"client"})
    needs: frozenset[Need] = frozenset({"stored-updates"})
    options: frozenset[str] = frozenset(DEFAULTS)
    training_hook: TrainingHook = KEEP

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """One computation at the server."""
        _options(settings)
        return [at_the_server(_dampen)]


def contributions(state: State) -> tuple[Tensor, Tensor]:
    """What the targets and the others contributed to each parameter: two float64 vectors, of one client on average.

    A client's contribution is the sum over the kept rounds of the absolute change that it made to the model it got.
    """
    size = flat(state.base).numel()
    sums = {side: torch.zeros(size, dtype=torch.float64) for side in (True, False)}
    clients: dict[bool, set[int]] = {True: set(), False: set()}
    for number in state.history.rounds():
        sent = flat(state.history.model(number)).double()
        for update in state.history.updates(number):
            side = update.client in state.targets
            sums[side] += (flat(update.model).double() - sent).abs()
            clients[side].add(update.client)
    target, others = (sums[side] / max(1, len(clients[side])) for side in (True, False))
    return target, others


def dampened(model: Tensor, target: Tensor, others: Tensor, cutoff: float, factor: float, upper: float) -> Tensor:
    """The model's values, those with a ratio others / target below `cutoff` times min(factor x ratio, upper)."""
    # Where the target contributed nothing, nothing is its own.
    ratio = torch.where(target > 0, others / target, torch.inf)
    multiplied = (model.double() * (factor * ratio).clamp_max(upper)).to(model.dtype)
    return torch.where(ratio < cutoff, multiplied, model)


def _options(settings: UnlearnSettings) -> tuple[float, float, float]:
    cutoff, factor, upper = (positive(settings, name, default) for name, default in DEFAULTS.items())
    return cutoff, factor, upper


def _dampen(state: State) -> State:
    values = dampened(flat(state.model), *contributions(state), *_options(state.settings))
    return replace(state, model=unflat(values, state.model))


methods.register("conda", ConDa())
