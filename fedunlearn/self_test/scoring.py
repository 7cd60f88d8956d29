"""From figures to the self-test's answer: every subject judged again and again, and what was asked of the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedunlearn.audit.calibration import LEFT_OUT, PooledMetric, Tally, calibrate, clopper_pearson, draws
from fedunlearn.audit.primary import PrimaryMetric
from fedunlearn.audit.verdict import judge_metric
from fedunlearn.self_test.cases import Case
from fedunlearn.self_test.models import METHOD
from fedunlearn.server.primary_figures import Figure

NOT_FAILED, PASSED, NOT_PASSED, CAUGHT = 0.95, 0.85, 1.0, 0.9
"""Shares of the repetitions: of the left-out retrained model, and of each control that must not be taken for one."""

FAR = 16.0
"""Deviations between original and retrained that a request of the self-test must have in some metric of removal."""

Figures = Mapping[str, Figure]


def pooled(
    metrics: Sequence[PrimaryMetric], original: Figures, pool: Sequence[Figures], subjects: Mapping[str, Figures]
) -> list[PooledMetric]:
    """The primary metrics of all models; one that some model lacks is left out."""
    found = []
    for metric in metrics:
        everybody = [original, *pool, *subjects.values()]
        if any(metric.name not in figures for figures in everybody):
            continue
        found.append(
            PooledMetric(
                name=metric.name,
                kind=metric.kind,
                transform=metric.transform,
                original=original[metric.name].value,
                pool=tuple(figures[metric.name].value for figures in pool),
                subjects={name: figures[metric.name].value for name, figures in subjects.items()},
                samples=original[metric.name].samples,
            )
        )
    return found


def score(
    case: Case, metrics: Sequence[PooledMetric], bands: Sequence[int], repetitions: int, seed: int
) -> dict[str, Any]:
    """One case's part of the document: what was measured, and each subject's tally for each size of band."""
    caught_by = {name: subject.caught_by for name, subject in case.subjects.items()}
    scored = {}
    for size in bands:
        drawn = draws(len(metrics[0].pool), size, repetitions, seed)
        tallies = calibrate(metrics, drawn, caught_by)
        scored[str(size)] = {
            "draws": [{"band": list(draw.band), "left_out": draw.left_out} for draw in drawn],
            "subjects": {name: _entry(name, tally) for name, tally in tallies.items()},
        }
    separation = {metric.name: _separation(metric, len(metrics)) for metric in metrics}
    return {
        "metrics": [_measured(metric) for metric in metrics],
        "separation": separation,
        "far_enough": max((s for m in metrics if (s := separation[m.name]) and m.kind == "removal"), default=0.0)
        >= FAR,
        "subjects": {name: subject.what for name, subject in case.subjects.items()},
        "bands": scored,
    }


def _entry(name: str, tally: Tally) -> dict[str, Any]:
    total = len(tally.outcomes)
    counts = {outcome: tally.outcomes.count(outcome) for outcome in ("pass", "fail", "inconclusive")}
    tellable = sum(tally.caught)
    failed_there = sum(told and outcome == "fail" for told, outcome in zip(tally.caught, tally.outcomes, strict=True))
    asked: dict[str, bool] = {}
    if name == LEFT_OUT:
        asked["not failed"] = total - counts["fail"] >= math.ceil(NOT_FAILED * total)
        asked["passed"] = counts["pass"] >= math.ceil(PASSED * total)
    elif name != METHOD:
        asked["not passed"] = total - counts["pass"] >= math.ceil(NOT_PASSED * total)
        asked["failed where it can be told"] = failed_there >= math.ceil(CAUGHT * tellable)
    return {
        "repetitions": total,
        **counts,
        "limits": {outcome: list(clopper_pearson(count, total)) for outcome, count in counts.items()},
        "tellable": tellable,
        "failed_where_tellable": failed_there,
        "failed_by_metric": dict(tally.failed),
        "informative_by_metric": dict(tally.informative),
        "asked": asked,
    }


def _separation(metric: PooledMetric, metrics: int) -> float | None:
    """Deviations of the whole pool between the original and its mean; None where the pool does not vary."""
    judged = judge_metric(metric.measured(metric.original, range(len(metric.pool))), metrics)
    far = judged.separation
    return far if far is not None and math.isfinite(far) else None


def _measured(metric: PooledMetric) -> dict[str, Any]:
    return {
        "metric": metric.name,
        "kind": metric.kind,
        "transform": metric.transform,
        "samples": metric.samples,
        "original": metric.original,
        "retrained": list(metric.pool),
        "subjects": dict(metric.subjects),
    }
