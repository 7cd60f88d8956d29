"""The gap to the retrained model, split by split: how far is each accuracy from what retraining gives?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from fedunlearn.audit.counts import add
from fedunlearn.audit.distance import distance
from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.subject import Subject
from fedunlearn.audit.tow import FORGET, RETAIN, TEST, TUG_OF_WAR, tug_of_war
from fedunlearn.errors import DataError

NAME = "retrain_gap"
SIDES = ("model", "retrained")


def measure(subject: Subject, generator: torch.Generator) -> Finding:
    """Right answers of the model and of the retrained one: on the forget set, retained samples, or the test set."""
    if subject.retrained is None:
        raise DataError("the retrain gap needs a retrained model; send one along.")
    samples = {"target": subject.forget, "remaining": subject.retained, "server": subject.held_out}[subject.role]
    found: dict[str, Any] = {"total": len(samples)}
    for side, state in zip(SIDES, (subject.model, subject.retrained), strict=True):
        found[side] = int((subject.evaluate(state, samples).predictions == samples.labels).sum())
    return found


def combine(gathered: Gathered) -> Mapping[str, Value]:
    """Signed gap of each split, the mean of their sizes, and the tug of war."""
    splits: dict[str, Mapping[str, Any] | None] = {
        FORGET: add(gathered.target.values()),
        RETAIN: add(gathered.remaining.values()),
        TEST: gathered.server,
    }
    model, retrained = (
        {name: found[side] / found["total"] for name, found in splits.items() if found and found["total"]}
        for side in SIDES
    )
    apart = distance(model, retrained, TUG_OF_WAR)
    values = {f"{NAME}.{name}": Value(gap) for name, gap in apart.gaps.items()}
    if None in apart.gaps.values():
        why = f"{NAME} needs the forget set, retained samples and a test set; one of them was not reported."
        return {NAME: Value.refusal(why), **values, f"{NAME}.tug_of_war": Value.refusal(why)}
    return {NAME: Value(apart.mean_absolute), **values, f"{NAME}.tug_of_war": Value(tug_of_war(model, retrained))}
