"""Budgets: what a method may spend of what retraining costs, and the rounds that fit into it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fedunlearn.config import FederationSettings, UnlearnSettings
from fedunlearn.strategies.method import Method, checked_phases

ROUNDING = 1e-12
"""Relative; a share such as 0.1 is no binary fraction, and must not cost a round."""


class Budget(BaseModel):
    """Shares of what retraining costs; without one, methods spend what their settings say.

    A client epoch is one pass of a participant over its training samples. Queries (attribution, Fisher information,
    activations) are no training passes: they are counted as bytes and as what clients computed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    client_epochs: Annotated[float, Field(gt=0)] | None = None
    """Of retraining's rounds x local epochs."""
    bytes: Annotated[float, Field(gt=0)] | None = None
    """Of retraining's bytes, both ways together."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Budget:
        if self.client_epochs is not None and self.bytes is not None:
            raise ValueError("give client_epochs or bytes, not both")
        return self

    def epochs_of(self, federation: FederationSettings) -> float | None:
        """Client epochs that a method may spend; None where they are not limited."""
        if self.client_epochs is None:
            return None
        return self.client_epochs * federation.rounds * federation.local_epochs


def runs_its_own_rounds(method: Method) -> bool:
    """Whether a method's number of rounds follows from something else than the settings."""
    return bool(getattr(method, "own_rounds", False))


def planned_epochs(method: Method, settings: UnlearnSettings, federation_rounds: int) -> float:
    """Client epochs of the method's rounds as they are planned: round phases x local epochs."""
    phases = checked_phases(method, settings, federation_rounds)
    return float(sum(phase.is_round for phase in phases) * settings.local_epochs)


def within_epochs(method: Method, settings: UnlearnSettings, epochs: float, federation_rounds: int) -> UnlearnSettings:
    """The settings with as many rounds as fit into `epochs` client epochs, 1 or more.

    A method without rounds, or with a number of rounds of its own, keeps its settings.

    Raises:
        SettingsError: the method cannot work with these settings.
    """
    checked_phases(method, settings, federation_rounds)
    if runs_its_own_rounds(method):
        return settings
    most = max(1, math.floor(epochs / settings.local_epochs * (1 + ROUNDING)))
    wanted = settings.model_copy(update={"rounds": most})
    if planned_epochs(method, wanted, federation_rounds) == 0:
        return settings
    return wanted


def rounds_for_bytes(allowed: float, once: float, a_round: float) -> int:
    """Rounds, 1 or more, that fit into `allowed` bytes beside what is sent `once`; `a_round` is above 0."""
    return max(1, math.floor((allowed - once) / a_round * (1 + ROUNDING)))


def bytes_of(rows: Iterable[Mapping[str, Mapping[str, Mapping[str, int]]]]) -> int:
    """Bytes both ways of ledger rows' entries: message -> client -> "up" and "down"."""
    return sum(
        count["up"] + count["down"] for messages in rows for clients in messages.values() for count in clients.values()
    )


def account(
    allowed: float | None, spent: float | None, what: str, own_rounds: bool, rounds: int | None
) -> dict[str, Any]:
    """What a method got of a budget, for the results.

    Args:
        allowed: by the budget; None: it is not limited. spent: in the end; None: not known.
        what: "client_epochs" or "bytes". rounds: that it was given; None: it has none of its own choice.
    """
    over = allowed is not None and spent is not None and spent > allowed * (1 + ROUNDING)
    return {"of": what, "allowed": allowed, "spent": spent, "rounds": rounds, "own_rounds": own_rounds, "over": over}
