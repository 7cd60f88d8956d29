"""Contenders: the methods of an experiment by the name that they have in its tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import SettingsError
from fedunlearn.strategies import methods
from fedunlearn.strategies.method import TrainingHook, training_hook

BAND = "retrained-band-"
"""Begin of the names of further retrained models."""
Values = Mapping[str, Any]
"""Settings of one contender, as a file gives them, with its "method"."""

_KINDS = {
    "federated": "federated",
    "centralised": "centralised",
    "image_to_image": "centralised",
    "controls": "control",
    "shortcuts": "control",
    "selective_channels": "ours",
    "nabla_tau": "centralised",
    "gs_lora": "centralised",
    "decouple_retain": "centralised",
    "retraining": "reference",
    "fine_tuning": "reference",
}
"""Folder or module of `fedunlearn.strategies` -> kind of the methods in it."""


def contenders(names: Iterable[str], settings: Mapping[str, Values]) -> dict[str, Values]:
    """Name -> values, in the order of `names`; then settings that name a method of their own and are not listed.

    Raises:
        UnknownName: a name is neither a method nor that of settings with a `method`.
        SettingsError: settings belong to nothing.
    """
    found: dict[str, Values] = {}
    for name in names:
        own: dict[str, Any] = dict(settings.get(name, {}))
        # Otherwise the name itself is the method's; an unknown one is told with the known names.
        found[name] = own if "method" in own else {**own, "method": methods.get(name).name}
    for name, values in settings.items():
        if name in found:
            continue
        if "method" not in values:
            raise SettingsError(f"settings.{name}: it is not among the methods; list it there, or give it a method.")
        found[name] = dict(values)
    return found


def with_changes(values: Values, changes: Mapping[str, Any]) -> Values:
    """The values with some of them replaced; what is no setting of every method is an option of this one."""
    known = set(UnlearnSettings.model_fields) - {"method", "options"}
    own = {name: value for name, value in changes.items() if name in known}
    options = {name: value for name, value in changes.items() if name not in known}
    found: dict[str, Any] = {**values, **own}
    if options:
        found["options"] = {**values.get("options", {}), **options}
    return found


def prepared_for(names: Iterable[str]) -> Sequence[str]:
    """Those of the registered methods that need something done while the federation trains, sorted."""
    return sorted({name for name in names if training_hook(methods.get(name)) != TrainingHook()})


def kind_of(name: str) -> str:
    """What sort of method it is, for tables; "other" for one from elsewhere.

    "federated" or "centralised", as in its own paper, "control", "reference" (retraining, fine-tuning) or "ours".
    """
    method = methods.get(name)
    parts = type(method).__module__.split(".")
    if parts[0] != "fedunlearn":
        return "other"
    kinds = [_KINDS[part] for part in parts if part in _KINDS]
    return kinds[0] if kinds else "other"
