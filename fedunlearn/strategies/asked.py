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
_DEFAULTS = UnlearnSettings()


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


def trains_in_full(method: Method) -> bool:
    """Whether the method is a training from the start, as retraining is."""
    return bool(getattr(method, "trains_in_full", False))


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
        recipe: the federation's own, as `settings_beside` has it. None: the defaults of `UnlearnSettings`.

    Raises:
        UnknownName: no such method.
        SettingsError: a setting is wrong.
    """
    own = dict(options or {})
    given = {"rounds": rounds, "local_epochs": local_epochs, "learning_rate": own.pop("learning_rate", None)}
    if method == AUTO and own:
        raise SettingsError(
            f"option {sorted(own)[0]!r} belongs to a single method, and {AUTO!r} stands for any: name the method."
        )
    values = {
        "method": method,
        "ratio": dict(ratio) if isinstance(ratio, Mapping) else ratio,
        "options": own,
        **{name: value for name, value in given.items() if value is not None},
    }
    settings = make_settings(UnlearnSettings, values) if recipe is None else settings_beside(recipe, values)
    if method != AUTO:
        checked_phases(methods.get(method), settings, settings.rounds)
    return settings


def settings_beside(recipe: FederationSettings, values: Mapping[str, Any]) -> UnlearnSettings:
    """Settings of one unlearning in a federation: `values`, and what they leave open by the federation's own recipe.

    A method that trains in full (retraining) takes its rounds and its local epochs, any other half of its local epochs.

    Raises:
        UnknownName: no such method.
        SettingsError: a setting is wrong.
    """
    method = values.get("method", _DEFAULTS.method)
    if method != AUTO and trains_in_full(methods.get(method)):
        left_open = {"rounds": recipe.rounds, "local_epochs": recipe.local_epochs}
    else:
        left_open = {"local_epochs": recovery_passes(recipe.local_epochs)}
    return make_settings(UnlearnSettings, {**left_open, **values})
