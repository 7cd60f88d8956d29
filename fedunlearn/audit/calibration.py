"""Is the verdict right? Retrained models that are left out of the band must pass, models that are none must not.

From a pool of retrained models each repetition draws a band and one more, which is judged as if it were an unlearned
model, beside others of which it is known that they have forgotten nothing, or too much. Pure arithmetic on what was
measured; bands overlap, so that the limits given are those of independent repetitions and somewhat too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from fedunlearn.audit.measured import Kind, Measured, Transform
from fedunlearn.audit.verdict import Outcome, judge
from fedunlearn.errors import DataError

LEFT_OUT = "left-out retrained"


@dataclass(frozen=True)
class PooledMetric:
    """One primary metric of everybody.

    Attributes:
        original: value of the model that the request found.
        pool: values of all retrained models.
        subjects: name -> value of each model that is judged.
        samples: N of a rate; None for a loss.
    """

    name: str
    kind: Kind
    transform: Transform
    original: float
    pool: tuple[float, ...]
    subjects: Mapping[str, float]
    samples: int | None = None

    def measured(self, value: float, band: Sequence[int]) -> Measured:
        """The metric for one judged value and a band of members of the pool."""
        retrained = tuple(self.pool[index] for index in band)
        return Measured(self.name, self.kind, self.transform, self.original, value, retrained, self.samples)


@dataclass(frozen=True)
class Draw:
    """One repetition: positions in the pool."""

    band: tuple[int, ...]
    left_out: int


@dataclass(frozen=True)
class Tally:
    """How a model was judged in all repetitions.

    Attributes:
        outcomes: of each repetition.
        informative: metric -> repetitions in which it could tell; a metric of utility always can.
        failed: metric -> repetitions in which it was outside of the interval.
    """

    outcomes: tuple[Outcome, ...]
    informative: Mapping[str, int]
    failed: Mapping[str, int]
    caught: tuple[bool, ...] = ()

    def count(self, outcome: Outcome) -> int:
        """Repetitions with this outcome."""
        return self.outcomes.count(outcome)


def draws(pool: int, size: int, repetitions: int, seed: int) -> list[Draw]:
    """Bands of `size` of a pool, and one more; nobody is left out twice before everybody was once.

    Raises:
        DataError: the pool has not one more than the band.
    """
    if pool <= size:
        raise DataError(f"a band of {size} and one more need {size + 1} retrained models; there are {pool}.")
    generator = np.random.default_rng(seed)
    found: list[Draw] = []
    while len(found) < repetitions:
        for left_out in generator.permutation(pool)[: repetitions - len(found)]:
            others = np.setdiff1d(np.arange(pool), [left_out])
            band = generator.choice(others, size=size, replace=False)
            found.append(Draw(tuple(sorted(int(one) for one in band)), int(left_out)))
    return found


def calibrate(
    metrics: Sequence[PooledMetric], repetitions: Sequence[Draw], caught_by: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Tally]:
    """Judge the left-out model and every subject in every repetition.

    Args:
        metrics: all with the same subjects and pool.
        caught_by: subject -> metrics that are meant to catch it; `Tally.caught` says where one of them could.
    """
    subjects = sorted({name for metric in metrics for name in metric.subjects})
    return {
        name: _tally(metrics, repetitions, None if name == LEFT_OUT else name, (caught_by or {}).get(name, ()))
        for name in (LEFT_OUT, *subjects)
    }


def _tally(
    metrics: Sequence[PooledMetric], repetitions: Sequence[Draw], subject: str | None, caught_by: Sequence[str]
) -> Tally:
    outcomes: list[Outcome] = []
    caught: list[bool] = []
    informative = {metric.name: 0 for metric in metrics}
    failed = dict(informative)
    for draw in repetitions:
        values = [m.pool[draw.left_out] if subject is None else m.subjects[subject] for m in metrics]
        verdict = judge([m.measured(value, draw.band) for m, value in zip(metrics, values, strict=True)])
        outcomes.append(verdict.outcome)
        told = set()
        for judged in verdict.metrics:
            name = judged.measured.metric
            # A metric of utility has no need to tell the original from a retrained model.
            if judged.informative is not False:
                informative[name] += 1
                told.add(name)
            failed[name] += judged.outcome == "fail"
        caught.append(bool(told & set(caught_by)))
    return Tally(tuple(outcomes), informative, failed, tuple(caught))


def clopper_pearson(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact limits of a share, 0 to 1 (Clopper and Pearson 1934).

    Args:
        count: 0 to `total`. total: 1 or more.
    """
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(betaincinv(count, total - count + 1, tail))
    high = 1.0 if count == total else float(betaincinv(count + 1, total - count, 1 - tail))
    return low, high
