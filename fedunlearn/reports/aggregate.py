"""From one document a seed to one aggregate a cell: mean and spread of every figure of every model."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedunlearn.audit.distance import share_of_the_way
from fedunlearn.reports.benchmark_contest import (
    BandAggregate,
    ContenderAggregate,
    aggregate_band,
    aggregate_contenders,
    band_of,
)
from fedunlearn.reports.benchmark_measures import (
    BY_KEY,
    FIGURES,
    WAY,
    cost_shares,
    distance_keys,
    distance_to,
    loss_distances,
    way_to,
    with_classes,
)
from fedunlearn.reports.document import Document, Model, after_of, models_of, ordered, rounds_of, value
from fedunlearn.reports.spread import Spread, spread

Figures = dict[str, Spread | None]


@dataclass(frozen=True)
class ModelAggregate:
    """One model of one cell over its seeds.

    Attributes:
        figures: figure -> mean and spread.
        distance: mean distance to the retrained model over `CellAggregate.distance_over`.
        losses: log-loss -> size of its distance to the retrained model's.
        way: figure -> share of the way from original to retrained; 0.5 is half of it.
        way_of_means: the same from the means over the seeds, which a seed with little way cannot rule.
        cost: cost -> share of the retrained model's.
    """

    figures: Figures
    distance: Spread | None
    losses: Figures
    way: Figures
    way_of_means: Mapping[str, float | None]
    cost: Figures


@dataclass(frozen=True)
class CellAggregate:
    """One cell over its seeds.

    Attributes:
        cell: its name; "" for an experiment without cells.
        seeds: those that count.
        void: seed -> why it shows nothing; such seeds count nowhere.
        distance_over: the figures whose distances are averaged.
        models: after the request. after: the same after some further ordinary rounds, by their number.
        curves: model -> round after the request -> distance to the finished retrained model.
        original_distance: the original's distance on the figures of the curves.
        contenders: what takes part in a contest, by the name of its row; those that cannot serve it included.
        band: further retrained models, from other seeds; None: there are none. They have no rows.
        step: where it stands among requests that came one after another: name of the whole, and number from 1.
        deletions: accuracy of each model on what each request so far made forgotten; nothing for a first request.
    """

    cell: str
    seeds: tuple[int, ...]
    void: Mapping[int, str]
    distance_over: tuple[str, ...]
    models: Mapping[str, ModelAggregate]
    after: Mapping[int, Mapping[str, ModelAggregate]]
    curves: Mapping[str, Mapping[int, Spread]]
    original_distance: Spread | None
    contenders: Mapping[str, ContenderAggregate] = field(default_factory=dict)
    band: BandAggregate | None = None
    step: tuple[str, int] | None = None
    deletions: Sequence[Figures] = ()


def aggregate(documents: Iterable[Document]) -> list[CellAggregate]:
    """One aggregate a cell, cells in the order in which they come.

    Args:
        documents: comparisons with the further keys "cell" and "seed".
    """
    cells: dict[str, list[Document]] = {}
    for document in documents:
        cells.setdefault(str(document["cell"]), []).append(document)
    return [aggregate_cell(cell, members) for cell, members in cells.items()]


def aggregate_cell(cell: str, documents: Sequence[Document]) -> CellAggregate:
    """The aggregate of one cell's documents, one a seed."""
    valid = [document for document in documents if not document.get("void")]
    every_stage = [stages_of(document) for document in valid]
    stages = [one[0] for one in every_stage]
    keys = distance_keys(model for models in stages for model in models.values())
    band = aggregate_band(stages, [band_of(document) for document in valid], keys)
    members = {name for document in valid for name in band_of(document)}
    stages = [{name: one for name, one in models.items() if name not in members} for models in stages]
    after = {}
    for rounds in sorted({number for one in every_stage for number in one if number}):
        of_models = _models([one[rounds] for one in every_stage if rounds in one], keys)
        after[rounds] = {name: entry for name, entry in of_models.items() if name != "original"}
    curves = [_curves(document, models) for document, models in zip(valid, stages, strict=True)]
    return CellAggregate(
        cell=cell,
        seeds=tuple(int(document["seed"]) for document in valid),
        void={int(document["seed"]): str(document["void"]) for document in documents if document.get("void")},
        distance_over=keys,
        models=_models(stages, keys),
        after=after,
        curves=_spread_curves(curves),
        original_distance=spread(one.get("original", {}).get(0) for one in curves),
        contenders=aggregate_contenders(documents),
        band=band,
        step=next(((str(one["of"]), int(one["number"])) for one in _steps(documents)), None),
        deletions=_deletions(valid, members),
    )


def _steps(documents: Sequence[Document]) -> Iterable[Mapping[str, Any]]:
    return (document["step"] for document in documents if document.get("step"))


def _deletions(documents: Sequence[Document], without: Collection[str]) -> list[Figures]:
    """For each request so far: model -> its accuracy on what that one made forgotten, over the seeds."""
    of_seeds = [[entry["forget"] for entry in document.get("deletions") or ()] for document in documents]
    found = []
    for number in range(max(map(len, of_seeds), default=0)):
        several = [entries[number] for entries in of_seeds if len(entries) > number]
        names = ordered({name: {"there": True} for entry in several for name in entry if name not in without})
        found.append({name: spread(value(entry.get(name), "accuracy") for entry in several) for name in names})
    return found


def stages_of(document: Document) -> dict[int, dict[str, Model]]:
    """Further ordinary rounds -> the models after them; 0 for right after unlearning.

    The original is in every stage as the request found it: it is what the others move away from.
    """
    classes = document.get("mostly_held_classes") or []
    stages = {0: models_of(document), **after_of(document)}
    original = {name: model for name, model in stages[0].items() if name == "original"}
    return {
        rounds: {name: with_classes(model, classes) for name, model in {**original, **models}.items()}
        for rounds, models in stages.items()
    }


def as_json(cell: CellAggregate) -> dict[str, Any]:
    """The aggregate as plain JSON."""
    return {
        "cell": cell.cell,
        "seeds": list(cell.seeds),
        "void": {str(seed): why for seed, why in cell.void.items()},
        "distance_over": list(cell.distance_over),
        "models": _models_json(cell.models),
        "after": {str(rounds): _models_json(models) for rounds, models in cell.after.items()},
        "distance_by_round": {
            name: {str(number): one.as_dict() for number, one in curve.items()} for name, curve in cell.curves.items()
        },
        "methods": {name: one.as_dict() for name, one in cell.contenders.items()},
        "retrained_band": None if cell.band is None else cell.band.as_dict(),
        **({} if cell.step is None else {"step": {"of": cell.step[0], "number": cell.step[1]}}),
        **({} if not cell.deletions else {"deletions": [_plain(one) for one in cell.deletions]}),
    }


def _models_json(models: Mapping[str, ModelAggregate]) -> dict[str, Any]:
    return {
        name: {
            "figures": _plain(one.figures),
            "distance_to_retrained": None if one.distance is None else one.distance.as_dict(),
            "loss_distance_to_retrained": _plain(one.losses),
            "share_of_the_way": _plain(one.way),
            "share_of_the_way_of_means": dict(one.way_of_means),
            "cost_share_of_retrained": _plain(one.cost),
        }
        for name, one in models.items()
    }


def _plain(figures: Figures) -> dict[str, Any]:
    return {key: one.as_dict() for key, one in figures.items() if one is not None}


def _models(stages: Sequence[Mapping[str, Model]], keys: tuple[str, ...]) -> dict[str, ModelAggregate]:
    names = ordered({name: {"there": True} for models in stages for name in models})
    return {name: _model(name, [models for models in stages if name in models], keys) for name in names}


def _model(name: str, stages: Sequence[Mapping[str, Model]], keys: tuple[str, ...]) -> ModelAggregate:
    def over_seeds(read: Callable[[Mapping[str, Model]], dict[str, float | None]]) -> Figures:
        found = [read(models) for models in stages]
        return {key: spread(one[key] for one in found) for key in found[0]} if found else {}

    return ModelAggregate(
        figures=over_seeds(lambda models: {one.key: value(models[name], one.key) for one in FIGURES}),
        distance=spread(distance_to(models[name], models.get("retrained"), keys) for models in stages),
        losses=over_seeds(lambda models: loss_distances(models[name], models.get("retrained"))),
        way=over_seeds(lambda models: way_to(models.get("original"), models[name], models.get("retrained"))),
        way_of_means={key: _way_of_means(name, stages, key) for key in WAY},
        cost=over_seeds(lambda models: cost_shares(models[name], models.get("retrained"))),
    )


def _way_of_means(name: str, stages: Sequence[Mapping[str, Model]], key: str) -> float | None:
    found = [tuple(value(models.get(who), key) for who in ("original", name, "retrained")) for models in stages]
    known = [[number for number in one if number is not None] for one in found if None not in one]
    if not known:
        return None
    original, model, retrained = (statistics.fmean(column) for column in zip(*known, strict=True))
    return share_of_the_way(original, model, retrained, least=BY_KEY[key].informative)


# How a figure of the comparison is called in the records of the rounds.
_BY_ROUND = {
    "test_accuracy": "test_accuracy",
    "backdoor_success": "backdoor_success",
    "canary_exposure": "canary_exposure",
    "forget.all.accuracy": "forget_accuracy",
    "forget.triggered.accuracy": "triggered_accuracy",
    "forget.untriggered.accuracy": "untriggered_accuracy",
    "forget.canaries.accuracy": "canaries_accuracy",
}


def _curves(document: Document, models: Mapping[str, Model]) -> dict[str, dict[int, float]]:
    """Model -> round -> distance to the finished retrained model; the original as round 0."""
    keys = [key for key in distance_keys(models.values()) if key in _BY_ROUND]
    target = models.get("retrained")
    curves: dict[str, dict[int, float]] = {}
    members = band_of(document)
    for name, records in rounds_of(document).items():
        if name != "original" and name not in members:
            found = {int(record["round"]): _as_model(record) for record in records}
            distances = {number: distance_to(one, target, keys) for number, one in found.items()}
            curves[name] = {number: size for number, size in distances.items() if size is not None}
    before = distance_to(models["original"], target, keys) if "original" in models else None
    if before is not None:
        curves["original"] = {0: before}
    return curves


def _as_model(record: Mapping[str, Any]) -> dict[str, Any]:
    """A round's record in the form of a model's entry."""
    entry: dict[str, Any] = {"forget": {}}
    for key, name in _BY_ROUND.items():
        if key.startswith("forget."):
            entry["forget"][key.split(".")[1]] = {"accuracy": record.get(name)}
        else:
            entry[key] = record.get(name)
    return entry


def _spread_curves(curves: Sequence[Mapping[str, Mapping[int, float]]]) -> dict[str, dict[int, Spread]]:
    names = ordered({name: {"there": True} for one in curves for name in one if name != "original"})
    result = {}
    for name in names:
        numbers = sorted({number for one in curves for number in one.get(name, {})})
        found = {number: spread(one.get(name, {}).get(number) for one in curves) for number in numbers}
        result[name] = {number: one for number, one in found.items() if one is not None}
    return result
