"""Tuning: equally many tries for every method, on validation requests that no result is made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from fedunlearn.config import PositiveInt, Seed
from fedunlearn.randomness import derive_seed
from fedunlearn.reports.aggregate import aggregate_cell
from fedunlearn.reports.document import Document
from fedunlearn.reports.spread import Spread

Changes = Mapping[str, Any]
"""Setting -> value, in the place of what a contender has."""


class Tuning(BaseModel):
    """How settings are found: `tries` for each method that has a space, its settings as they stand among them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    """Of the validation requests."""
    tries: PositiveInt
    space: dict[str, dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]]] = Field(default_factory=dict)
    """Contender -> setting or option -> values."""


@dataclass(frozen=True)
class Try:
    """One try of one contender in one cell.

    Attributes:
        number: 1 and up; 1 is the contender as it stands.
        changes: what is other than that.
        distance: to the retrained model, over the validation requests; None: not measured.
        cannot: why it did not run, by validation seed.
        chosen: whether the results are made with it.
    """

    number: int
    changes: Changes
    distance: Spread | None
    cannot: Mapping[int, str]
    chosen: bool


def name_of(contender: str, number: int) -> str:
    """What a try is called in the documents of the validation requests."""
    return f"{contender} #{number}"


def candidates(contender: str, space: Mapping[str, Sequence[Any]], tries: int) -> tuple[Changes, ...]:
    """`tries` changes at most: none first, then all of the space where it is that small, or else drawn from it.

    The draw is without repetition and depends on the contender's name alone.
    """
    names = list(space)
    total = math.prod(len(space[name]) for name in names) if names else 0
    wanted = min(tries - 1, total)
    if wanted == total:
        picked: Iterable[int] = range(total)
    else:
        generator = np.random.default_rng(derive_seed("tries", contender))
        picked = sorted(int(one) for one in generator.choice(total, size=wanted, replace=False))
    return ({}, *(_combination(space, names, index) for index in picked))


def _combination(space: Mapping[str, Sequence[Any]], names: Sequence[str], index: int) -> Changes:
    """The combination at `index` of the product, the last name running fastest."""
    found = {}
    for name in reversed(names):
        index, place = divmod(index, len(space[name]))
        found[name] = space[name][place]
    return {name: found[name] for name in names}


def judged(
    tried: Mapping[str, Sequence[Changes]], documents: Sequence[Document], cell: str = ""
) -> dict[str, list[Try]]:
    """Contender -> its tries, one of each chosen: the smallest mean distance to retrained on one cell's documents.

    Tries that lack fewer validation requests come first, of equal ones the earlier. A contender with a single try has
    it as its choice, whether it was measured or not; so has one of which nothing was measured its first.

    Args:
        tried: contender -> the changes of its tries, in their order.
        documents: comparisons on the validation requests, with "seed", and with "methods" as a benchmark writes it.
    """
    models = aggregate_cell(cell, documents).models if documents else {}
    found = {}
    for contender, several in tried.items():
        names = [name_of(contender, number) for number in range(1, len(several) + 1)]
        sizes = [models[name].distance if name in models else None for name in names]
        best = best_of(sizes)
        found[contender] = [
            Try(number, changes, size, _refusals(name, documents), number - 1 == best)
            for number, (changes, size, name) in enumerate(zip(several, sizes, names, strict=True), start=1)
        ]
    return found


def best_of(sizes: Sequence[Spread | None]) -> int:
    """Index of the best distance; 0 where none is known."""
    known = [(-size.count, size.mean, index) for index, size in enumerate(sizes) if size is not None]
    return min(known)[2] if known else 0


def as_json(tries: Mapping[str, Sequence[Try]]) -> dict[str, Any]:
    """The tries of a cell as plain JSON."""
    return {
        contender: [
            {
                "number": one.number,
                "changes": dict(one.changes),
                "distance": None if one.distance is None else one.distance.as_dict(),
                "cannot": {str(seed): why for seed, why in one.cannot.items()},
                "chosen": one.chosen,
            }
            for one in several
        ]
        for contender, several in tries.items()
    }


def _refusals(name: str, documents: Sequence[Document]) -> dict[int, str]:
    why = {int(one["seed"]): (one.get("methods") or {}).get(name, {}).get("cannot") for one in documents}
    return {seed: text for seed, text in why.items() if text}
