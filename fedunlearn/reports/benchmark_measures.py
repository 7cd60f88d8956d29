"""What a benchmark tabulates beyond one comparison: distances, the way to retraining, shares of its cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fedunlearn.audit.distance import distance, gap, share_of_the_way
from fedunlearn.reports.answer import bytes_moved
from fedunlearn.reports.document import Model, value
from fedunlearn.reports.measures import MEASURES, PARTS, Measure

MOSTLY_HELD = Measure(
    "mostly_held_classes_accuracy",
    "Classes mostly held",
    "share",
    "memory",
    "How often the model is right on unseen data of the classes of which at least half of all training "
    "samples are to be forgotten.",
    0.03,
    0.05,
)
APART = ("probe_accuracy", "relearn_steps", "membership_accuracy")
"""What is in no mean distance: measured on pooled data, with a scale of its own, or a second reading of the losses."""

FIGURES: tuple[Measure, ...] = (
    *(measure for measure in MEASURES if measure.role != "cost"),
    MOSTLY_HELD,
    *(measure for measure in MEASURES if measure.role == "cost"),
)
"""Every figure of a row, in the order of the columns."""

BY_KEY = {measure.key: measure for measure in FIGURES}
LOSSES = tuple(f"forget.{part}.loss" for part in PARTS)
WAY = (
    *(f"forget.{part}.{what}" for part in ("all", "untriggered") for what in ("loss", "psnr")),
    "forgotten_classes_accuracy",
    MOSTLY_HELD.key,
)
"""Figures of which at least half of the way from original to retrained is asked."""

COST_SHARES = {"client_epochs": "Client epochs", "bytes": "Bytes", "seconds": "Time"}


def with_classes(model: Model, classes: Iterable[str]) -> dict[str, Any]:
    """The model's entry with its mean test accuracy over `classes`, which were mostly the forget set's.

    Without any, or where one is unknown, it is as it was.
    """
    by_class = model.get("test_accuracy_by_class") or {}
    known = [value({"x": by_class.get(name)}, "x") for name in classes]
    numbers = [number for number in known if number is not None]
    if not numbers or len(numbers) < len(known):
        return dict(model)
    return {**model, MOSTLY_HELD.key: sum(numbers) / len(numbers)}


def distance_keys(models: Iterable[Model]) -> tuple[str, ...]:
    """The figures whose distances to the retrained model are averaged: all on a scale from 0 to 1.

    A log-loss has no upper end and would rule the mean; it stands beside it. The forget set as a whole is
    averaged only where it has no parts.
    """
    entries = list(models)
    parts = [f"forget.{part}.accuracy" for part in PARTS if part != "all"]
    in_parts = any(value(model, key) is not None for model in entries for key in parts)
    return tuple(
        measure.key
        for measure in FIGURES
        if measure.kind in ("share", "score")
        and measure.key not in APART
        and not (in_parts and measure.key == "forget.all.accuracy")
        and any(value(model, measure.key) is not None for model in entries)
    )


def distance_to(model: Model, retrained: Model | None, keys: Iterable[str]) -> float | None:
    """Mean distance to the retrained model over the figures `keys`, 0 to 1; None where none is known."""
    names = list(keys)
    own, other = ({key: value(one, key) for key in names} for one in (model, retrained))
    return distance(own, other, names).mean_absolute


def loss_distances(model: Model, retrained: Model | None) -> dict[str, float | None]:
    """Figure -> size of the log-loss's distance to the retrained model's."""
    gaps = {key: gap(value(model, key), value(retrained, key)) for key in LOSSES}
    return {key: None if size is None else abs(size) for key, size in gaps.items()}


def way_to(original: Model | None, model: Model, retrained: Model | None) -> dict[str, float | None]:
    """Figure -> (model - original) / (retrained - original).

    None where original and retrained differ by no more than what can tell anything (`Measure.informative`).
    """
    return {
        key: share_of_the_way(
            value(original, key), value(model, key), value(retrained, key), least=BY_KEY[key].informative
        )
        for key in WAY
    }


def cost_shares(model: Model, retrained: Model | None) -> dict[str, float | None]:
    """Cost -> this model's as a share of the retrained model's; None where one is unknown or the latter 0."""
    pairs: Mapping[str, tuple[float | None, float | None]] = {
        "client_epochs": (value(model, "cost.client_epochs"), value(retrained, "cost.client_epochs")),
        "bytes": (bytes_moved(model), bytes_moved(retrained)),
        "seconds": (value(model, "cost.seconds"), value(retrained, "cost.seconds")),
    }
    return {name: own / other if own is not None and other else None for name, (own, other) in pairs.items()}
