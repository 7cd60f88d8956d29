"""The settings of one unlearning, out of the words of a call; what is wrong in them is found before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedunlearn.config import FederationSettings, UnlearnSettings, make_settings, recovery_passes
from fedunlearn.errors import SettingsError
from fedunlearn.strategies import methods
from fedunlearn.strategies.method import Method, checked_phases, training_hook

AUTO = "auto"
"""In the place of a method's name: the cheapest that can serve the request."""


def check_prepare_for(names: Sequence[str]) -> None:
    """Check the methods that a federation is to be trained for.

    Raises:
        UnknownName: no such method.
        SettingsError: one needs nothing done while the federation trains.
    """
    for name in names:
        if not acts_in_training(methods.get(name)):
            able = ", ".join(known for known in methods.names() if acts_in_training(methods.get(known)))
            raise SettingsError(f"prepare-for: method {name!r} needs nothing done in training; those that do: {able}.")


def acts_in_training(method: Method) -> bool:
    """Whether the method needs something kept or prepared while the federation trains."""
    hook = training_hook(method)
    return bool(hook.keep_updates_every or hook.prepare)


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
        recipe: the federation's own. Where none are given, a method that trains in full (retraining) takes its rounds
            and local epochs, and any other half of its local epochs. None: the defaults of `UnlearnSettings`.

    Raises:
        UnknownName: no such method.
        SettingsError: a setting is wrong.
    """
    if recipe is not None and method != AUTO and getattr(methods.get(method), "trains_in_full", False):
        rounds = recipe.rounds if rounds is None else rounds
        local_epochs = recipe.local_epochs if local_epochs is None else local_epochs
    elif recipe is not None and local_epochs is None:
        local_epochs = recovery_passes(recipe.local_epochs)
    if method == AUTO:
        return _for_whichever(ratio, rounds, local_epochs, dict(options or {}))
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


def _for_whichever(
    ratio: str | float | Mapping[str, float], rounds: int | None, local_epochs: int | None, options: dict[str, Any]
) -> UnlearnSettings:
    """Settings for a method that is yet to be chosen: those that every method has."""
    values: dict[str, Any] = {"method": AUTO, "ratio": dict(ratio) if isinstance(ratio, Mapping) else ratio}
    if "learning_rate" in options:
        values["learning_rate"] = options.pop("learning_rate")
    if options:
        raise SettingsError(
            f"option {sorted(options)[0]!r} belongs to a single method, and {AUTO!r} stands for any: name the method."
        )
    given = {"rounds": rounds, "local_epochs": local_epochs}
    return make_settings(UnlearnSettings, {**values, **{name: n for name, n in given.items() if n is not None}})
