"""The settings of one unlearning, out of the words of a call; what is wrong in them is found before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedunlearn.config import FederationSettings, UnlearnSettings, make_settings
from fedunlearn.strategies import methods
from fedunlearn.strategies.method import checked_phases


def unlearn_settings(
    method: str,
    ratio: str | float | Mapping[str, float] = "auto",
    rounds: int | None = None,
    local_epochs: int | None = None,
    options: Mapping[str, Any] | None = None,
    recipe: FederationSettings | None = None,
) -> UnlearnSettings:
    """Checked settings of one unlearning.

    Args:
        recipe: the federation's own, whose rounds and local epochs a method that trains in full (retraining) takes
            where none are given; any other takes the defaults of `UnlearnSettings`.

    Raises:
        UnknownName: no such method.
        SettingsError: a setting is wrong.
    """
    if recipe is not None and getattr(methods.get(method), "trains_in_full", False):
        rounds, local_epochs = rounds or recipe.rounds, local_epochs or recipe.local_epochs
    values: dict[str, Any] = {"method": method, "ratio": dict(ratio) if isinstance(ratio, Mapping) else ratio}
    own = dict(options or {})
    if rounds is not None:
        values["rounds"] = rounds
    if local_epochs is not None:
        values["local_epochs"] = local_epochs
    if "learning_rate" in own:
        values["learning_rate"] = own.pop("learning_rate")
    settings = make_settings(UnlearnSettings, {**values, "options": own})
    checked_phases(methods.get(method), settings, settings.rounds)
    return settings
