"""The verdict: is an unlearned model one of the retrained ones, as far as n retrained models can tell?

Pure arithmetic on what was measured, so that anybody can do it again from the audit's document alone. On the scale of
`fedunlearn.audit.measured` the retrained models have mean r and deviation s; o is the original and u the unlearned
model. With m metrics, K = t(1 - 0.01/(2m), n-1) * sqrt(1 + 1/n): one more retrained model lies within K s of r in all m
metrics together in at least 99 cases of 100.

- *Fail*: some |u - r| > K s.
- *Pass*: n >= 8, a removal metric is informative (|o - r| > K s), and |u - r| + t(0.95, n-1) s / sqrt(n) is within
  0.25 |o - r| for every informative removal metric, and the utility metric is within 0.015 of accuracy, or within
  0.3 dB of the loss where the task has no accuracy.
- *Inconclusive*: neither; what would decide is named.

A utility metric's margin is stated in accuracy and compared there: r moved by t(0.95, n-1) s / sqrt(n) either way is
taken back to a rate, and the further of the two must be within 0.015 of u's. A loss is compared as its logarithm like
any other, with a margin of 0.3 decibels, a factor of 1.07. The rule is this project's own, made of
the textbook's prediction interval (Hahn and Meeker 1991) and equivalence margin (Schuirmann 1987).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fedunlearn.audit import band_width
from fedunlearn.audit.band_width import MINIMUM_MODELS, factor, uncertainty
from fedunlearn.audit.measured import Measured
from fedunlearn.errors import DataError

Outcome = Literal["pass", "fail", "inconclusive"]
MetricOutcome = Literal["pass", "fail", "open", "uninformative"]

REMOVAL_MARGIN = 0.25
"""Of the way from the retrained mean to the original."""
UTILITY_MARGIN = 0.015
"""Of accuracy."""
UTILITY_DECIBELS = 0.3
"""Of a loss: that much more is a factor of 1.07."""
MOST_METRICS = 5


@dataclass(frozen=True)
class Judged:
    """One metric with the band's figures, on the compared scale but for the margins of utility.

    Attributes:
        mean: r; None without a retrained model.
        deviation: s, with n - 1; None for fewer than two models, and so is all that follows from it.
        limit: K s.
        interval: where one more retrained model lies, r - K s to r + K s, as rates or losses.
        margin: 0.25 |o - r|; of a utility metric 0.015 of accuracy, or 0.069 (0.3 dB) of a loss's logarithm.
        bound: what the margin is for: |u - r| with what is uncertain about r.
        informative: whether the original is outside of the interval; None for a utility metric.
        outcome: "fail" (outside the interval), "pass" (within the margin), "open" (neither), or "uninformative".
        models: how many retrained models would decide it, if all come out as these did; None: no number of them.
        samples: how many samples (canaries, say) would, with as many models; None where that cannot help.
    """

    measured: Measured
    mean: float | None = None
    deviation: float | None = None
    limit: float | None = None
    interval: tuple[float, float] | None = None
    margin: float | None = None
    bound: float | None = None
    informative: bool | None = None
    outcome: MetricOutcome = "open"
    models: int | None = None
    samples: int | None = None

    @property
    def separation(self) -> float | None:
        """Deviations between the original and r; infinite where all retrained models are the same."""
        if self.mean is None or self.deviation is None:
            return None
        apart = abs(self.measured.forward(self.measured.original) - self.mean)
        return apart / self.deviation if self.deviation else math.inf

    @property
    def excess(self) -> float:
        """|u - r| as a multiple of K s; above 1 it fails, infinite where all retrained models are the same."""
        if self.mean is None or self.limit is None:
            return 0.0
        gap = abs(self.measured.forward(self.measured.unlearned) - self.mean)
        return gap / self.limit if self.limit else (math.inf if gap else 0.0)

    def document(self) -> dict[str, Any]:
        """As the audit's document holds it."""
        own = self.measured
        undecided = self.outcome in ("open", "uninformative")
        return {
            "metric": own.metric,
            "kind": own.kind,
            "transform": own.transform,
            "samples": own.samples,
            "original": own.original,
            "unlearned": own.unlearned,
            "retrained": list(own.retrained),
            "mean": self.mean,
            "deviation": self.deviation,
            "limit": self.limit,
            "interval": None if self.interval is None else list(self.interval),
            "margin": self.margin,
            "bound": self.bound,
            "informative": self.informative,
            "outcome": self.outcome,
            "needed": {"models": self.models, "samples": self.samples} if undecided else None,
        }


@dataclass(frozen=True)
class Verdict:
    """What the metrics say together and why, in a sentence; `models` is the size of the band."""

    outcome: Outcome
    why: str
    metrics: tuple[Judged, ...]
    models: int


def judge(measured: Sequence[Measured]) -> Verdict:
    """The verdict on an unlearned model.

    Raises:
        DataError: no metric, more than five, one twice, or bands of different sizes.
    """
    names = [one.metric for one in measured]
    if not 1 <= len(names) <= MOST_METRICS or len(set(names)) < len(names):
        raise DataError(f"a verdict takes 1 to {MOST_METRICS} metrics, each once; got {', '.join(names) or 'none'}.")
    sizes = {len(one.retrained) for one in measured}
    if len(sizes) > 1:
        raise DataError(f"the metrics were measured on bands of {sorted(sizes)} models; use one band for all.")
    models = sizes.pop()
    judged = tuple(judge_metric(one, len(measured)) for one in measured)
    outcome, why = _together(judged, models)
    return Verdict(outcome, why, judged, models)


def judge_metric(measured: Measured, metrics: int) -> Judged:
    """One of `metrics` metrics against the band."""
    models = len(measured.retrained)
    removal = measured.kind == "removal"
    values = [measured.forward(value) for value in measured.retrained]
    if models < 2:
        unknown: MetricOutcome = "uninformative" if removal else "open"
        mean = values[0] if values else None
        return Judged(measured, mean, informative=False if removal else None, outcome=unknown, models=MINIMUM_MODELS)
    # Summed with full precision, the order of the models does not matter.
    mean = math.fsum(values) / models
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (models - 1))
    limit = factor(models, metrics) * deviation
    gap = abs(measured.forward(measured.unlearned) - mean)
    apart = abs(measured.forward(measured.original) - mean)
    informative = apart > limit if removal else None
    in_accuracy = not removal and measured.transform == "logit"
    margin = REMOVAL_MARGIN * apart if removal else utility_margin(measured)

    def bound(doubt: float) -> float:
        return _rate_gap(measured, mean, doubt) if in_accuracy else gap + doubt

    def is_decided(number: int, shrinkage: float = 1.0) -> bool:
        """Whether it would be, with so many models whose deviation is so many times smaller."""
        own = deviation / shrinkage
        reach = factor(number, metrics) * own
        if informative is False:
            return apart > reach
        return gap > reach or bound(uncertainty(number) * own) <= margin

    if gap > limit:
        outcome: MetricOutcome = "fail"
    elif informative is False:
        outcome = "uninformative"
    else:
        outcome = "pass" if bound(uncertainty(models) * deviation) <= margin else "open"
    undecided = outcome in ("open", "uninformative")
    return Judged(
        measured=measured,
        mean=mean,
        deviation=deviation,
        limit=limit,
        interval=(measured.back(mean - limit), measured.back(mean + limit)),
        margin=margin,
        bound=bound(uncertainty(models) * deviation),
        informative=informative,
        outcome=outcome,
        models=band_width.fewest_models(is_decided, models) if undecided else None,
        samples=band_width.fewest_samples(is_decided, models, measured.samples) if undecided else None,
    )


def utility_margin(measured: Measured) -> float:
    """The margin of a utility metric: of accuracy, or of a loss's logarithm."""
    return UTILITY_MARGIN if measured.transform == "logit" else UTILITY_DECIBELS * math.log(10.0) / 10.0


def _rate_gap(measured: Measured, mean: float, doubt: float) -> float:
    """The larger distance between the unlearned model's rate and that of the mean, moved by `doubt` either way."""
    return max(abs(measured.unlearned - measured.back(mean + moved)) for moved in (-doubt, doubt))


def _together(judged: Sequence[Judged], models: int) -> tuple[Outcome, str]:
    failed = sorted((one for one in judged if one.outcome == "fail"), key=lambda one: -one.excess)
    if failed:
        return "fail", "; ".join(_outside(one, models) for one in failed) + "."
    removal = [one for one in judged if one.measured.kind == "removal"]
    if models < MINIMUM_MODELS:
        few = "there is no retrained model to"
        if models:
            few = f"{models} retrained model{'' if models == 1 else 's'} cannot"
        return "inconclusive", f"{few} show that an unlearned one is like them; {MINIMUM_MODELS} at least are needed."
    informative = [one for one in removal if one.informative]
    if not informative:
        if not removal:
            return "inconclusive", "no metric of removal could be measured, so that nothing can be seen to be removed."
        likeliest = min(removal, key=lambda one: one.models or math.inf)
        return "inconclusive", (
            f"original and retrained models do not differ enough in {_names(removal)} to tell whether anything was "
            f"removed; {_needed(likeliest, models)}."
        )
    opened = [one for one in judged if one.outcome == "open"]
    if opened:
        return "inconclusive", "; ".join(_not_close(one, models) for one in opened) + "."
    silent = [one for one in removal if not one.informative]
    beside = f" ({_names(silent)} cannot tell)" if silent else ""
    telling = [*informative, *(one for one in judged if one.measured.kind == "utility")]
    return "pass", (
        f"on {_names(telling)} the unlearned model is as close to {models} retrained models as the margins ask{beside}."
    )


def _outside(one: Judged, models: int) -> str:
    low, high = one.interval or (math.nan, math.nan)
    own = one.measured
    return (
        f"{own.metric} is {own.unlearned:.3g}, and a model like the {models} retrained lies in {low:.3g} to {high:.3g}"
    )


def _not_close(one: Judged, models: int) -> str:
    # In fields of a share of the margin both kinds of metric read alike.
    share = one.bound / one.margin if one.bound is not None and one.margin else math.inf
    return f"{one.measured.metric} is not close enough to retrained ({share:.1f} margins); {_needed(one, models)}"


def _needed(one: Judged, models: int) -> str:
    what = "canaries" if "canar" in one.measured.metric else "samples"
    ways = []
    if one.models is not None:
        ways.append(f"{one.models} retrained models")
    if one.samples is not None:
        ways.append(f"{one.samples} {what}")
    if not ways:
        return f"no number of models decides {one.measured.metric} if they come out as these {models} did"
    return f"{' or '.join(ways)} would decide {one.measured.metric}"


def _names(several: Sequence[Judged]) -> str:
    return ", ".join(one.measured.metric for one in several)
