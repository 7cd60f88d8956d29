"""Retraining from scratch without the forget set: the reference that every method is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.aggregation import Average
from fedunlearn.strategies.method import EVERY_SCOPE, Down, Need, Phase, Scope, State, methods
from fedunlearn.strategies.recovery import RECOVER, send_packed, train_on_retained


@dataclass(frozen=True)
class Retraining:
    """Recovery rounds from fresh weights, every parameter moving."""

    name: str = "retrain"
    source: str = "the definition of exact unlearning: the same recipe, a new seed, without the forget set"
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset()
    trains_in_full: bool = True
    starts_fresh: bool = True
    options: frozenset[str] = frozenset()

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """`settings.rounds` rounds; the first starts from fresh weights."""
        first = Phase("train.recover", "remaining", send_fresh, train_on_retained, Average(from_fresh))
        return [first, *[RECOVER] * (settings.rounds - 1)]


def from_fresh(state: State) -> State:
    """The state with newly initialised weights."""
    return replace(state, model=state.fresh)


def send_fresh(state: State) -> Down:
    """What goes down in a round that starts from them."""
    return send_packed(from_fresh(state))


methods.register("retrain", Retraining())
