"""Several comparisons of one kind (one a seed) as means and spreads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from fedunlearn.audit.distance import gap
from fedunlearn.reports.answer import findings, gap_left
from fedunlearn.reports.document import Document, Model, after_of, models_of, ordered, value
from fedunlearn.reports.measures import present


@dataclass(frozen=True)
class Spread:
    """Values of one number over the seeds.

    Attributes:
        mean: over the seeds that have the number.
        deviation: sample standard deviation (n - 1); None for a single seed.
        values: the values, in the order of the seeds; None where a seed has none.
    """

    mean: float
    deviation: float | None
    values: tuple[float | None, ...]


def spread(values: Iterable[float | None]) -> Spread | None:
    """Mean and deviation of the values that are there; None where none is."""
    everything = tuple(values)
    known = [number for number in everything if number is not None and math.isfinite(number)]
    if not known:
        return None
    return Spread(fmean(known), stdev(known) if len(known) > 1 else None, everything)


def summary(documents: Sequence[Document], seeds: Sequence[int]) -> dict[str, Any]:
    """One cell of a benchmark as plain JSON.

    Seeds whose experiment is void are named, with the reason, and counted in no mean.

    Returns:
        {"seeds", "void": {seed: reason}, "models": {model: {measure: spread}}, "gaps": {model: {measure: spread of
        the difference to the retrained model of the same seed}}, "way": {model: {measure: spread}}, "gap_left":
        {model: spread}, "after": {rounds: {"models", "gaps"}}}; a spread is {"mean", "deviation", "values"}.
    """
    pairs = list(zip(seeds, documents, strict=True))
    void = {str(seed): str(document["void"]) for seed, document in pairs if document.get("void")}
    valid = [document for _, document in pairs if not document.get("void")]
    stages = [models_of(document) for document in valid]
    later = sorted({rounds for document in valid for rounds in after_of(document)})
    return {
        "seeds": [seed for seed, document in pairs if not document.get("void")],
        "void": void,
        **_stage(stages),
        "way": {name: _ways(stages, name) for name in _names(stages)},
        "gap_left": {
            name: found
            for name in _names(stages)
            if (found := _plain(spread(gap_left(models, name) for models in stages))) is not None
        },
        "after": {
            str(rounds): _stage([after_of(document).get(rounds, {}) for document in valid])
            for rounds in later
        },
    }


def _stage(stages: Sequence[Mapping[str, Model]]) -> dict[str, Any]:
    entries: dict[str, Any] = {"models": {}, "gaps": {}}
    for name in _names(stages):
        measures = present([models[name] for models in stages if name in models])
        entries["models"][name] = {
            measure.key: _plain(spread(value(models.get(name), measure.key) for models in stages))
            for measure in measures
        }
        gaps = {measure.key: _plain(spread(_gaps(stages, name, measure.key))) for measure in measures}
        entries["gaps"][name] = {key: found for key, found in gaps.items() if found is not None}
    return entries


def _gaps(stages: Sequence[Mapping[str, Model]], name: str, key: str) -> list[float | None]:
    return [gap(value(models.get(name), key), value(models.get("retrained"), key)) for models in stages]


def _ways(stages: Sequence[dict[str, Model]], name: str) -> dict[str, Any]:
    read = [{one.measure.key: one.way for one in findings(models, name)} for models in stages]
    keys = dict.fromkeys(key for ways in read for key in ways)
    return {key: _plain(spread(ways.get(key) for ways in read)) for key in keys}


def _names(stages: Sequence[Mapping[str, Model]]) -> list[str]:
    return list(ordered({name: {"there": True} for models in stages for name in models}))


def _plain(found: Spread | None) -> dict[str, Any] | None:
    return None if found is None else {**asdict(found), "values": list(found.values)}
