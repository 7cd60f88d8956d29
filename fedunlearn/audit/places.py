"""Measuring several models in one go: which of the models that were sent are audited, and which stand beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fedunlearn.errors import DataError


@dataclass(frozen=True)
class Place:
    """One audited model and those beside it, as positions in a list of models.

    Attributes:
        model: the audited one.
        references, before, retrained, updates, shadows: as in `Subject`.
    """

    model: int
    references: tuple[int, ...] = ()
    before: int | None = None
    retrained: int | None = None
    updates: tuple[int, ...] = ()
    shadows: tuple[int, ...] = ()

    def positions(self) -> tuple[int, ...]:
        """Every position that is named."""
        single = [one for one in (self.model, self.before, self.retrained) if one is not None]
        return (*single, *self.references, *self.updates, *self.shadows)


def to_text(places: Sequence[Place]) -> str:
    """As a message carries them."""
    return json.dumps([asdict(place) for place in places])


def from_text(text: str, models: int) -> tuple[Place, ...]:
    """The places that `to_text` wrote. Raises DataError when they do not name models of 0 to `models` - 1."""
    try:
        places = tuple(_place(entry) for entry in json.loads(text))
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError("the list of models to audit cannot be read; run the same version on both sides.") from error
    wrong = [one for place in places for one in place.positions() if not 0 <= one < models]
    if wrong:
        raise DataError(f"the list of models to audit names model {wrong[0]}; {models} were sent.")
    return places


def _place(entry: Mapping[str, Any]) -> Place:
    values = {name: tuple(map(int, value)) if isinstance(value, list) else value for name, value in entry.items()}
    place = Place(**values)  # type: ignore[arg-type]
    if not all(type(one) is int for one in place.positions()):
        raise TypeError("positions are whole numbers")
    return place
