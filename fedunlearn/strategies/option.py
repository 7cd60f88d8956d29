"""A method's own options: numbers and words out of `settings.options`, checked before anything is sent."""

from __future__ import annotations

import math
from collections.abc import Collection

from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import SettingsError


def number(
    settings: UnlearnSettings, name: str, default: float, lowest: float = 0.0, highest: float = math.inf
) -> float:
    """The option `name`, a finite number from `lowest` to `highest` (both allowed); `default` where it is not given.

    Raises SettingsError for anything else; True and False are no numbers.
    """
    return _bounded(settings, name, default, lowest, highest, above=False)


def positive(settings: UnlearnSettings, name: str, default: float, highest: float = math.inf) -> float:
    """The option `name`, a finite number above 0 and at most `highest`. Raises SettingsError for anything else."""
    return _bounded(settings, name, default, 0.0, highest, above=True)


def whole(settings: UnlearnSettings, name: str, default: int, lowest: int = 0, highest: int | None = None) -> int:
    """The option `name`, a whole number from `lowest` to `highest` (None: no bound). Raises SettingsError otherwise."""
    value = settings.options.get(name, default)
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= lowest
    if not isinstance(value, int) or not fits or (highest is not None and value > highest):
        bound = f"{lowest} or more" if highest is None else f"from {lowest} to {highest}"
        raise SettingsError(f"{name} = {value!r}: expected a whole number, {bound}.")
    return value


def choice(settings: UnlearnSettings, name: str, allowed: Collection[str]) -> str:
    """The option `name`, one of `allowed`; the first of them where it is not given. Raises SettingsError otherwise."""
    words = list(allowed)
    value = settings.options.get(name, words[0])
    if value not in words:
        raise SettingsError(f"{name} = {value!r}: expected one of {', '.join(words)}.")
    return str(value)


def switch(settings: UnlearnSettings, name: str, default: bool) -> bool:
    """The option `name`, true or false. Raises SettingsError otherwise."""
    value = settings.options.get(name, default)
    if not isinstance(value, bool):
        raise SettingsError(f"{name} = {value!r}: expected true or false.")
    return value


def _bounded(settings: UnlearnSettings, name: str, default: float, lowest: float, highest: float, above: bool) -> float:
    value = settings.options.get(name, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(value, str) or not is_number or not _within(float(value), lowest, highest, above):
        least = f"above {lowest:g}" if above else f"{lowest:g} or more"
        most = "" if math.isinf(highest) else f", at most {highest:g}"
        raise SettingsError(f"{name} = {value!r}: expected a number {least}{most}.")
    return float(value)


def _within(value: float, lowest: float, highest: float, above: bool) -> bool:
    return math.isfinite(value) and lowest <= value <= highest and not (above and value == lowest)
