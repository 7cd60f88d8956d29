"""Selective channels: only the channels that carry the forgotten data are reset and fine-tuned.

After Xu et al. 2024, "Update Selective Parameters: Federated Machine Unlearning Based on Model Explanation"
(arXiv 2406.12516). The paper states channels, localisation by explanation and fine-tuning of those channels only;
formulas, the discriminative ranking, the reset, the ratio rule and the forget step are *reconstruction*.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from fedunlearn.channels.reset import reset_rows, reset_values
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import SettingsError
from fedunlearn.strategies.forgetting import ascend, forget_phase, relabel, towards_unseen
from fedunlearn.strategies.localisation import (
    REFER,
    check_localisation,
    select_channels,
    send_arrays,
    unite,
)
from fedunlearn.strategies.method import (
    EVERY_SCOPE,
    ClientReply,
    Need,
    Phase,
    Reply,
    Scope,
    State,
    Work,
    methods,
)
from fedunlearn.strategies.recovery import recovery_of_selected

STEPS: Mapping[str, Callable[[Work], Reply] | None] = {
    "reset": None,
    "reset-and-raise": towards_unseen,
    "relabel": relabel,
    "ascent": ascend,
}


@dataclass(frozen=True)
class SelectiveChannels:
    """Reference, attribute, then rounds in which only the selected channels and the output layer move.

    Options: `attribution` (a registered attribution method), `ranking` ("excess"; others are controls), and
    `forget_step`: "reset" (the selected channels get the values with which training began, those of the last layer
    of channels fresh ones), "reset-and-raise" (also, after each recovery round the target raises its losses to those
    of unseen data), "relabel" and "ascent" (nothing is reset; the target takes one bounded step before the recovery
    rounds).
    """

    name: str = "selective-channels"
    source: str = "Xu et al. 2024, arXiv 2406.12516; reconstruction of all formulas"
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target"})
    options: frozenset[str] = frozenset({"attribution", "ranking", "forget_step"})

    def needs_with(self, settings: UnlearnSettings) -> frozenset[Need]:
        """Two of the forget steps are made of classes."""
        of_classes = settings.options.get("forget_step") in ("relabel", "ascent")
        return frozenset({"class-scores"}) if of_classes else frozenset()

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """Two queries, then `settings.rounds` recovery rounds with their forget steps."""
        check_localisation(settings)
        name = str(settings.options.get("forget_step", "reset"))
        if name not in STEPS:
            raise SettingsError(f"there is no forget step called {name!r}; known: {', '.join(STEPS)}.")
        step, resets = STEPS[name], name.startswith("reset")
        attribute = Phase("query.attribute", "target", send_arrays, select_channels, _reset if resets else _keep)
        forget = [] if step is None else [forget_phase(step)]
        rounds_of_recovery = recovery_of_selected(settings.rounds)
        if resets:
            return [REFER, attribute, *(phase for one in rounds_of_recovery for phase in (one, *forget))]
        return [REFER, attribute, *forget, *rounds_of_recovery]


def _keep(state: State, replies: Sequence[ClientReply]) -> State:
    asked = state.settings.ratio
    mask = unite(replies, state.layout, None if isinstance(asked, str) else asked)
    # Nothing sets the forget set apart: plain fine-tuning, every parameter moving.
    return replace(state, mask=mask if mask.count() else None)


def _reset(state: State, replies: Sequence[ClientReply]) -> State:
    state = _keep(state, replies)
    if state.mask is None:
        return state
    values = reset_values(state.initial or state.fresh, state.fresh, state.layout)
    return replace(state, model=reset_rows(state.model, state.mask, state.layout, values))


methods.register("selective-channels", SelectiveChannels())
