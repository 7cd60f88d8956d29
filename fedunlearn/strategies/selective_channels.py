"""Selective channels: only the channels that carry the forgotten data are reset and fine-tuned.

After Xu et al. 2024, "Update Selective Parameters: Federated Machine Unlearning Based on Model Explanation"
(arXiv 2406.12516). The paper states channels, localisation by explanation and fine-tuning of those channels only;
formulas, the discriminative ranking, the reset, the ratio rule and the forget step are *reconstruction*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fedunlearn.channels.reset import part_way, reset_rows, reset_values
from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.aggregation import Average, RunningAverage, mean_number
from fedunlearn.strategies.forgetting import ascend, forget_phase, relabel, towards_unseen
from fedunlearn.strategies.localisation import (
    FORGET_RATE,
    REFER,
    REWIND,
    STEP_NUMBERS,
    check_localisation,
    restrict,
    select_channels,
    send_arrays,
)
from fedunlearn.strategies.method import (
    EVERY_SCOPE,
    ClientReply,
    Down,
    Need,
    Phase,
    Reply,
    Scope,
    State,
    Work,
    methods,
)
from fedunlearn.strategies.nearest_label import shrink
from fedunlearn.strategies.option import choice
from fedunlearn.strategies.passes import FORGET_OPTIONS, check_forget_options
from fedunlearn.strategies.recovery import recovery_of_selected, send_packed


def _shrink(work: Work) -> Reply:
    return shrink(work, float(work.arrays[FORGET_RATE][0]))


STEPS: Mapping[str, Callable[[Work], Reply] | None] = {
    "shrink": _shrink,
    "reset": None,
    "reset-and-raise": towards_unseen,
    "relabel": relabel,
    "ascent": ascend,
}


@dataclass(frozen=True)
class SelectiveChannels:
    """Reference, attribute, forget, then rounds in which only the selected channels and the output layer move.

    Options: `attribution` (a registered attribution method), `ranking` ("excess"; others are controls), `forget_rate`
    (see `forget_recipe`; read off the attribution), and `forget_step`: "shrink" (the target gives its samples to the
    nearest wrong classes, after its channels went most of the way back where they hold what was learned by heart or is
    spread; where localisation asks for no such step, or a target does not take it, they are reset),
    "reset" (the selected channels get the values with which training began, those of the last layer of channels fresh
    ones), "reset-and-raise" (also, after each recovery round the target raises its losses to those of unseen data),
    "relabel" and "ascent" (nothing is reset; the target takes one other bounded step before the recovery rounds).
    """

    name: str = "selective-channels"
    source: str = (
        "Xu et al. 2024, arXiv 2406.12516; reconstruction of all formulas; the forget step after Chen et al. 2023, "
        "arXiv 2303.11570"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target"})
    options: frozenset[str] = frozenset({"attribution", "ranking", "forget_step"}) | FORGET_OPTIONS

    def needs_with(self, settings: UnlearnSettings) -> frozenset[Need]:
        """Two of the forget steps are made of classes."""
        of_classes = settings.options.get("forget_step") in ("relabel", "ascent")
        return frozenset({"class-scores"}) if of_classes else frozenset()

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """Two queries, then `settings.rounds` recovery rounds with their forget steps."""
        check_localisation(settings)
        check_forget_options(settings)
        name = choice(settings, "forget_step", STEPS)
        step, recovery = STEPS[name], recovery_of_selected(settings.rounds)
        if name == "shrink":
            return [REFER, _attribute(_shrink_or_reset), SHRINK, _shrunk_or_reset_first(recovery[0]), *recovery[1:]]
        forget = [] if step is None else [forget_phase(step)]
        if name.startswith("reset"):
            return [REFER, _attribute(_reset), *(phase for one in recovery for phase in (one, *forget))]
        return [REFER, _attribute(restrict), *forget, *recovery]


def _attribute(combine: Callable[[State, Sequence[ClientReply]], State]) -> Phase:
    return Phase("query.attribute", "target", send_arrays, select_channels, combine)


def _reset(state: State, replies: Sequence[ClientReply]) -> State:
    return _reset_channels(restrict(state, replies))


def _reset_channels(state: State, share: float = 1.0) -> State:
    """The selected channels that share of the way back."""
    if state.mask is None:
        return state
    values = reset_values(state.initial or state.fresh, state.fresh, state.layout)
    if share < 1:
        values = part_way(state.model, values, share)
    return replace(state, model=reset_rows(state.model, state.mask, state.layout, values))


def _shrink_or_reset(state: State, replies: Sequence[ClientReply]) -> State:
    """The targets' mask, and the step they ask for; the selected channels are reset where they ask for none."""
    state = restrict(state, replies)
    counts = [reply.metrics["num-examples"] for reply in replies]
    rate, share = (mean_number([_said(reply, name) for reply in replies], counts) for name in (FORGET_RATE, REWIND))
    if state.mask is None or not rate:
        return _reset_channels(state)
    if share:
        state = _reset_channels(state, share)
    return replace(state, arrays={**state.arrays, FORGET_RATE: np.array([rate])})


def _said(reply: ClientReply, name: str) -> float:
    """A number of the step that a target asks for; at most the highest that an honest one would."""
    number = reply.metrics.get(name, 0.0)
    return min(max(number, 0.0), max(STEP_NUMBERS[name])) if math.isfinite(number) else 0.0


def _ask_to_shrink(state: State) -> Down | None:
    if FORGET_RATE not in state.arrays:
        return None
    return Down(packed=state.packed(), arrays={FORGET_RATE: state.arrays[FORGET_RATE]})


@dataclass(frozen=True)
class _AverageOfAllTargets(Average):
    """The mean of the targets' steps; where one took none, whose samples would stay, the state as it was sent."""

    def begin(self, state: State) -> RunningAverage:
        """The mean before the first reply."""
        return _Shrinking(state)


class _Shrinking(RunningAverage):
    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._missing = set(state.targets)

    def add(self, reply: ClientReply) -> None:
        """Add one reply."""
        super().add(reply)
        self._missing.discard(reply.client)

    def result(self) -> State:
        """The state after the step."""
        if self._missing:
            return self._state
        averaged = super().result()
        return replace(averaged, arrays=_without_rate(averaged))


def _shrunk_or_reset(state: State) -> State:
    """The state itself, or with its channels reset where a step was asked for and not taken."""
    if FORGET_RATE not in state.arrays:
        return state
    return _reset_channels(replace(state, arrays=_without_rate(state)))


def _shrunk_or_reset_first(recovery: Phase) -> Phase:
    """The first recovery round, from there."""
    return replace(recovery, down=lambda state: send_packed(_shrunk_or_reset(state)), combine=Average(_shrunk_or_reset))


def _without_rate(state: State) -> dict[str, np.ndarray]:
    return {name: array for name, array in state.arrays.items() if name != FORGET_RATE}


SHRINK = Phase("train.forget", "target", _ask_to_shrink, _shrink, _AverageOfAllTargets())

methods.register("selective-channels", SelectiveChannels())
