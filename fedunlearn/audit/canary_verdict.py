"""The verdict that canaries give without a single retrained model.

A canary's label was drawn uniformly from the wrong ones, so that a model which never saw n canaries shows a mean
exposure of 0.5 with a variance of K / (12 (K - 2)) / n: 80 / (768 n) for ten classes. That null is exact, whatever the
model. The rule is that of `fedunlearn.audit.verdict` with the mean and the deviation known: *fail* beyond z(0.995)
deviations; *pass* if the original is beyond them (the canaries are informative) and |u - 0.5| + z(0.95) deviations is
within 0.25 |o - 0.5|. It says nothing of accuracy, nor of samples that are no canaries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scipy.special import ndtri

from fedunlearn.audit.band_width import CONFIDENCE, FALSE_FAIL
from fedunlearn.audit.canary import null_standard_error
from fedunlearn.audit.verdict import REMOVAL_MARGIN, Outcome
from fedunlearn.errors import DataError

CHANCE = 0.5
METRIC = "canary_exposure"


@dataclass(frozen=True)
class CanaryVerdict:
    """What the canaries say, in exposures.

    Attributes:
        original: mean exposure of the model that the request found, 0 to 1.
        unlearned: of the model that is judged.
        canaries: how many there are. classes: K.
        deviation: of the mean exposure of a model that never saw them.
        limit: z(0.995) deviations.
        margin: 0.25 |o - 0.5|.
        bound: |u - 0.5| and z(0.95) deviations.
        needed: how many canaries would decide it; None when it is decided, or when no number would.
    """

    original: float
    unlearned: float
    canaries: int
    classes: int
    deviation: float
    limit: float
    margin: float
    bound: float
    informative: bool
    outcome: Outcome
    why: str
    needed: int | None = None

    def document(self) -> dict[str, Any]:
        """As the audit's document holds it."""
        return {
            "metric": METRIC,
            "kind": "removal",
            "samples": self.canaries,
            "classes": self.classes,
            "original": self.original,
            "unlearned": self.unlearned,
            "mean": CHANCE,
            "deviation": self.deviation,
            "limit": self.limit,
            "interval": [CHANCE - self.limit, CHANCE + self.limit],
            "margin": self.margin,
            "bound": self.bound,
            "informative": self.informative,
            "needed": self.needed,
            "verdict": self.outcome,
            "why": self.why,
        }


def judge_canaries(original: float, unlearned: float, canaries: int, classes: int) -> CanaryVerdict:
    """The verdict on mean exposures (0 to 1) of `canaries` canaries of a task with `classes` classes.

    Raises:
        DataError: an exposure is out of range, there is no canary, or there are fewer than three classes.
    """
    for value in (original, unlearned):
        if not 0.0 <= value <= 1.0:
            raise DataError(f"{METRIC} = {value}: expected a mean exposure from 0 to 1.")
    deviation = null_standard_error(canaries, classes)
    limit = float(ndtri(1 - FALSE_FAIL / 2)) * deviation
    doubt = float(ndtri(CONFIDENCE)) * deviation
    gap, apart = abs(unlearned - CHANCE), abs(original - CHANCE)
    margin, informative = REMOVAL_MARGIN * apart, apart > limit
    shown = f"exposure {unlearned:.3f} of {canaries} canaries, chance {CHANCE} ± {limit:.3f}"
    only = "this rests on canaries alone and says nothing of accuracy or of other samples"
    needed = None
    outcome: Outcome
    if gap > limit:
        outcome, why = "fail", f"{shown}: still remembered, or forgotten by more than chance; {only}."
    elif informative and gap + doubt <= margin:
        outcome, why = "pass", f"{shown}: no more remembered than by a model that never saw them; {only}."
    elif informative:
        # The deviation shrinks with the root of their number: until it is within the margin, or outside of chance.
        shrinkage = min(_over(doubt, margin - gap), _over(limit, gap))
        needed = _times(canaries, shrinkage)
        outcome, why = "inconclusive", f"{shown}; {needed} canaries would decide it; {only}."
    else:
        needed = _times(canaries, _over(limit, apart))
        would = "no number of canaries decides it" if needed is None else f"{needed} canaries would show more"
        outcome = "inconclusive"
        why = f"the original does not show its canaries (exposure {original:.3f}), so that nothing can go; {would}."
    return CanaryVerdict(
        original=original,
        unlearned=unlearned,
        canaries=canaries,
        classes=classes,
        deviation=deviation,
        limit=limit,
        margin=margin,
        bound=gap + doubt,
        informative=informative,
        outcome=outcome,
        why=why,
        needed=needed,
    )


def judge_canaries_of(entry: Mapping[str, Any]) -> CanaryVerdict:
    """The verdict again, from a document's "canaries". Raises DataError when it is damaged."""
    try:
        return judge_canaries(
            float(entry["original"]), float(entry["unlearned"]), int(entry["samples"]), int(entry["classes"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the audit's canaries are damaged ({error!r}); get a copy.") from error


def _over(one: float, other: float) -> float:
    return one / other if other > 0 else math.inf


def _times(canaries: int, shrinkage: float) -> int | None:
    return math.ceil(canaries * shrinkage**2) if math.isfinite(shrinkage) else None
