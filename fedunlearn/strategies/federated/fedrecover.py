"""FedRecover: training is repeated without the target; in most rounds the server estimates what clients would send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.aggregation import average
from fedunlearn.strategies.federated.curvature import hessian_vector_product
from fedunlearn.strategies.federated.stored_rounds import flat, one_thread, retained_updates, unflat
from fedunlearn.strategies.method import (
    ClientReply,
    Down,
    Need,
    Phase,
    Scope,
    State,
    TrainingHook,
    Work,
    methods,
)
from fedunlearn.strategies.option import positive, whole
from fedunlearn.strategies.recovery import Recovery, local_recipe
from fedunlearn.tasks.training import TrainingSettings

WARM_UP, PERIOD, BUFFER, THRESHOLD = 2, 4, 2, 2.0
"""The paper warms up for 20 of 2000 rounds and corrects every 20; federations of this size have some ten rounds."""
_STEPS, _CHANGES = "steps", "changes/"

KEEP = TrainingHook(keep_updates_every=1)


@dataclass(frozen=True)
class FedRecover:
    """Exact rounds at first, at the end and one now and then; between them L-BFGS corrects what clients once sent.

    A client's update in a kept round becomes that update plus its Hessian, approximated from what it sent in the exact
    rounds, times the difference between the model now and the model then. Options: `warm_up` (exact rounds at first:
    2), `period` (further on one round in so many is exact: 4), `buffer` (pairs of differences that are remembered: 2),
    `threshold` (an estimate that is so many times as large as the update that was sent, in its largest value, is
    replaced by that update: 2).
    """

    name: str = "fedrecover"
    source: str = (
        "Cao et al. 2023 (IEEE S&P); reconstruction: it starts from the model before the first round, which saw no "
        "data; clients' updates stand for gradients; an abnormal estimate is replaced at the server, not asked for"
    )
    scopes: frozenset[Scope] = frozenset({"client"})
    needs: frozenset[Need] = frozenset({"stored-updates", "individual-updates"})
    options: frozenset[str] = frozenset({"warm_up", "period", "buffer", "threshold"})
    training_hook: TrainingHook = KEEP
    own_rounds: bool = True

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """The exact rounds; what lies between two of them is estimated as the later one begins."""
        whole(settings, "buffer", BUFFER, 1)
        positive(settings, "threshold", THRESHOLD)
        exact = exact_rounds(settings, rounds)
        return [_exact(earlier + 1, number) for earlier, number in zip([0, *exact], exact, strict=False)]

    def local_epochs(self, settings: UnlearnSettings, training: TrainingSettings) -> float:
        """Passes of a client in an exact round."""
        return training.local_epochs


def exact_rounds(settings: UnlearnSettings, rounds: int) -> list[int]:
    """Numbers of the rounds in which clients train: the warm-up, every `period`-th after it, and the last."""
    warm_up, period = whole(settings, "warm_up", WARM_UP, 1), whole(settings, "period", PERIOD, 1)
    wanted = {*range(1, min(warm_up, rounds) + 1), *range(warm_up + period, rounds + 1, period), rounds}
    return sorted(wanted)


def estimate(sent: Tensor, steps: Tensor, changes: Tensor, moved: Tensor, threshold: float) -> Tensor:
    """What a client would send now, P.

    Args:
        sent: what it sent then, as the model that it got less the one that it made of it.
        steps, changes: M x P, of the models and of its updates in exact rounds.
        moved: the model now less the model then.
        threshold: how many times its largest value may have grown.
    """
    found = sent + hessian_vector_product(steps, changes, moved)
    normal = bool(found.abs().max() <= threshold * sent.abs().max())
    return found if normal else sent


def advanced(state: State, numbers: Sequence[int]) -> State:
    """The state after kept rounds `numbers` in which every client's update is estimated."""
    threshold = positive(state.settings, "threshold", THRESHOLD)
    now = flat(state.model)
    for number in numbers:
        then = flat(state.history.model(number))
        total, weight = torch.zeros_like(now, dtype=torch.float64), 0.0
        for update in retained_updates(state, number):
            steps, changes = _pairs(state, update.client, len(now))
            total += update.weight * estimate(then - flat(update.model), steps, changes, now - then, threshold).double()
            weight += update.weight
        if weight:
            now = (now.double() - total / weight).to(now.dtype)
    return replace(state, model=unflat(now, state.model))


def _pairs(state: State, client: int, size: int) -> tuple[Tensor, Tensor]:
    """Steps and changes of one client, M x P each; where it missed a round, that pair is left out."""
    steps = torch.from_numpy(np.array(state.arrays.get(_STEPS, np.zeros((0, size), np.float32))))
    changes = state.arrays.get(f"{_CHANGES}{client}")
    if changes is None:
        return steps[:0], steps[:0]
    known = torch.from_numpy(np.array(changes))
    # A pair that it missed is zero, and has no curvature.
    return steps, known


def _exact(first: int, number: int) -> Phase:
    """The exact round `number`, before it the estimated ones from `first` on."""

    def start(state: State) -> State:
        if number == 1:
            return replace(state, model=state.history.model(1))
        kept = set(state.history.rounds())
        with one_thread():
            return advanced(state, [one for one in range(first, number) if one in kept])

    def down(state: State) -> Down | None:
        return Down(packed=start(state).packed()) if number in state.history.rounds() else None

    def combine(state: State, replies: Sequence[ClientReply]) -> State:
        began = start(state)
        with one_thread():
            return replace(average(began, replies), arrays=_remembered(began, number, replies))

    return Phase("train.recover", "remaining", down, Recovery(_recipe), combine)


def _recipe(work: Work) -> TrainingSettings:
    return replace(local_recipe(work.training, work.settings), local_epochs=work.training.local_epochs)


def _remembered(state: State, number: int, replies: Sequence[ClientReply]) -> Mapping[str, np.ndarray]:
    """The pairs of differences with those of this exact round, the oldest dropped where there are too many."""
    now, then = flat(state.model), flat(state.history.model(number))
    step = now - then
    if not bool(step.any()):
        return state.arrays  # the first round repeats what was
    buffer = whole(state.settings, "buffer", BUFFER, 1)
    size = len(now)
    sent = {update.client: then - flat(update.model) for update in retained_updates(state, number)}
    steps = np.asarray(state.arrays.get(_STEPS, np.zeros((0, size), np.float32)))
    found = {_STEPS: np.concatenate([steps, step.numpy()[None]])[-buffer:]}
    answered = {reply.client: reply for reply in replies}
    known = {int(name.removeprefix(_CHANGES)) for name in state.arrays if name.startswith(_CHANGES)}
    for client in sorted(known | answered.keys()):
        change = np.zeros(size, np.float32)
        if client in answered and client in sent:
            trained = state.with_packed(answered[client].arrays).model
            change = (now - flat(trained) - sent[client]).numpy()
        before = np.asarray(state.arrays.get(f"{_CHANGES}{client}", np.zeros((len(steps), size), np.float32)))
        found[f"{_CHANGES}{client}"] = np.concatenate([before, change[None]])[-buffer:]
    return found


methods.register("fedrecover", FedRecover())
