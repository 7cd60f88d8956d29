"""Selective channels: only the channels that carry the forgotten data are reset and fine-tuned.

After Xu et al. 2024, "Update Selective Parameters: Federated Machine Unlearning Based on Model Explanation"
(arXiv 2406.12516). The paper states channels, localisation by explanation and fine-tuning of those channels only;
formulas, the discriminative ranking, the reset and the ratio rule are *reconstruction*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedunlearn.channels.reset import reset_rows
from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.localisation import (
    REFER,
    check_localisation,
    select_channels,
    send_arrays,
    unite,
)
from fedunlearn.strategies.method import EVERY_SCOPE, ClientReply, Phase, Scope, State, methods
from fedunlearn.strategies.recovery import RECOVER


@dataclass(frozen=True)
class SelectiveChannels:
    """Reference, attribute, reset, then recovery rounds on the selected channels and the output layer."""

    name: str = "selective-channels"
    source: str = "Xu et al. 2024, arXiv 2406.12516; reconstruction of all formulas"
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs_target: bool = True

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """Two queries and `settings.rounds` recovery rounds."""
        check_localisation(settings)
        attribute = Phase("query.attribute", "target", send_arrays, select_channels, _reset)
        return [REFER, attribute, *[RECOVER] * settings.rounds]


def _reset(state: State, replies: Sequence[ClientReply]) -> State:
    mask = unite(replies, state.layout)
    if mask.count() == 0:
        # Nothing sets the forget set apart: plain fine-tuning, every parameter moving.
        return replace(state, mask=None)
    return replace(state, mask=mask, model=reset_rows(state.model, mask, state.layout, state.fresh))


methods.register("selective-channels", SelectiveChannels())
