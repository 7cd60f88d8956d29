"""Distance in weights, measured against the distance between two retrained models.

By itself it says little: two trainings that differ only in their seed end far from each other, because units may
change places. The ratio to that distance is the figure; a retrained model has about 1. A small one shows nothing
good: it may lie as near to the original.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.subject import ModelState, Subject
from fedunlearn.errors import DataError

NAME = "weight_distance"


@dataclass(frozen=True)
class WeightDistance:
    """How far a model's weights are from those of retrained models.

    Attributes:
        overall: mean Euclidean distance to the retrained models, 0 upwards.
        by_tensor: the same for each tensor by itself.
        between_retrained: mean distance between two of them; None for fewer than two.
        ratio: the first over the last; about 1 for a retrained model.
    """

    overall: float
    by_tensor: Mapping[str, float]
    between_retrained: float | None
    ratio: float | None


def weight_distance(model: ModelState, retrained: Sequence[ModelState]) -> WeightDistance:
    """Distance of `model` to each of `retrained`, averaged, and relative to their distance from each other.

    Counters and other integers are left out.

    Raises:
        DataError: there is no retrained model, or one has other tensors.
    """
    if not retrained:
        raise DataError("a distance in weights needs one retrained model at least, and two for its ratio.")
    squares = [squared_distances(model, one) for one in retrained]
    overall = sum(_length(one) for one in squares) / len(squares)
    pairs = [_length(squared_distances(one, other)) for one, other in itertools.combinations(retrained, 2)]
    between = sum(pairs) / len(pairs) if pairs else None
    return WeightDistance(
        overall=overall,
        by_tensor={name: sum(math.sqrt(one[name]) for one in squares) / len(squares) for name in squares[0]},
        between_retrained=between,
        ratio=overall / between if between else None,
    )


def squared_distances(one: ModelState, other: ModelState) -> dict[str, float]:
    """Squared Euclidean distance by floating-point tensor. Raises DataError where names or shapes differ."""
    if one.keys() != other.keys() or any(one[name].shape != other[name].shape for name in one):
        raise DataError("the models to compare have different tensors; compare models of one network.")
    return {
        name: float((tensor.detach().double() - other[name].detach().double()).square().sum())
        for name, tensor in one.items()
        if tensor.is_floating_point()
    }


def _length(squares: Mapping[str, float]) -> float:
    return math.sqrt(sum(squares.values()))


def measure(subject: Subject, generator: torch.Generator) -> Finding:
    """The server's own business: nothing but weights is needed."""
    found = weight_distance(subject.model, subject.references)
    return {"overall": found.overall, "between": found.between_retrained or 0.0}


def combine(gathered: Gathered) -> Mapping[str, Value]:
    """The ratio, and the two distances that it is made of."""
    found = gathered.server or {"overall": 0.0, "between": 0.0}
    overall, between = float(found["overall"]), float(found["between"])  # type: ignore[arg-type]
    ratio = Value(overall / between) if between else Value.refusal("the retrained models are one and the same.")
    return {NAME: ratio, f"{NAME}.overall": Value(overall), f"{NAME}.between_retrained": Value(between)}
