"""Harm to those who stay: how each remaining client and each remaining class fared by the unlearning.

After Shao et al. 2024 ("Federated Unlearning: a Perspective of Stability and Fairness", arXiv 2402.01276), who ask
for the spread over the remaining clients; the bound on a class and what explains a fall are *reconstruction*.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fedunlearn.audit import accuracy
from fedunlearn.audit.counts import MINIMUM_SAMPLES, add
from fedunlearn.audit.examination import tally
from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.subject import Subject
from fedunlearn.errors import DataError

NAME = "harm"
LIMIT = 0.2
"""Fall of a remaining class's accuracy that is borne without any explanation."""
HARMED = 0.02
"""A client is harmed when its accuracy falls, or its loss rises, by more than this."""
LEAST_ERROR = 0.05
"""A class's error rate is taken to be this at least before what explains a rise is computed from it."""
DEVIATIONS = 3.0
"""Sampling noise that a fall has to exceed: one class in 700 does by chance."""


@dataclass(frozen=True)
class OverClients:
    """One figure over the remaining clients; all from 0 to 1 for an accuracy, 0 upwards for a loss.

    Attributes:
        mean: every client counting the same.
        worst: of the client that is worst off.
        tenth: what the worst tenth of the clients does not reach: 10 % quantile, for a loss the 90 % one.
        clients: how many there are.
    """

    mean: float
    worst: float
    tenth: float
    clients: int


@dataclass(frozen=True)
class Harm:
    """How the figure of each remaining client changed: after less before.

    Attributes:
        change: mean, worst and worst tenth of the changes.
        spread: standard deviation of the changes over the clients, 0 for equal ones.
        harmed: clients to whom it became worse by more than the stated amount.
    """

    change: OverClients
    spread: float
    harmed: int


@dataclass(frozen=True)
class ClassHarm:
    """A remaining class that fell further than it may: accuracies from 0 to 1, `allowed` the fall that was."""

    label: int
    before: float
    after: float
    allowed: float
    samples: int


def over_clients(values: Sequence[float | None], lower_is_better: bool = False) -> OverClients | None:
    """Mean, worst and worst tenth of one value a client; None where no client has one.

    Args:
        values: None for a client that held it back.
        lower_is_better: true for losses.
    """
    known = sorted((value for value in values if value is not None), reverse=lower_is_better)
    if not known:
        return None
    return OverClients(sum(known) / len(known), known[0], _quantile(known, 0.1), len(known))


def harm(
    before: Sequence[float | None],
    after: Sequence[float | None],
    amount: float = HARMED,
    lower_is_better: bool = False,
) -> Harm | None:
    """What the unlearning did to the clients; None where no client has both values.

    Args:
        before: of the original model, one value a client.
        after: of the other model, the same clients in the same order.
        amount: a change for the worse that is larger counts as harm.
    """
    pairs = zip(before, after, strict=True)
    changes = [new - old for old, new in pairs if old is not None and new is not None]
    over = over_clients(changes, lower_is_better)
    if over is None:
        return None
    worse = [change if lower_is_better else -change for change in changes]
    variance = sum((change - over.mean) ** 2 for change in changes) / len(changes)
    return Harm(over, math.sqrt(variance), sum(size > amount for size in worse))


def harmful_classes(
    before: Sequence[float | None],
    after: Sequence[float | None],
    counts: Sequence[int],
    forgotten: Collection[int],
    limit: float,
    shares: Sequence[float] | None = None,
) -> list[ClassHarm]:
    """The remaining classes whose accuracy fell by more than it may, beyond sampling noise.

    A class may fall by `limit` and by what the loss of the forgotten samples explains (`explained_fall`).

    Args:
        before: accuracy of the original on each class, (K,); None where there is no sample.
        after: the same of the unlearned model.
        counts: samples behind each of them, (K,).
        forgotten: classes that the request names: they are meant to fall.
        limit: 0 to 1; 1 lets everything pass.
        shares: of the samples of each class the share that is forgotten, 0 to 1, (K,); None: none is.
    """
    found = []
    for label, (old, new, samples) in enumerate(zip(before, after, counts, strict=True)):
        if label in forgotten or old is None or new is None or not samples:
            continue
        allowed = min(1.0, limit + explained_fall(old, 0.0 if shares is None else shares[label]))
        if old - new - DEVIATIONS * _deviation(old, new, samples) > allowed:
            found.append(ClassHarm(label, old, new, allowed, samples))
    return found


def explained_fall(accuracy: float, share: float) -> float:
    """The fall of a class's accuracy that losing `share` of its samples explains, 0 to `accuracy`.

    The error grows as the inverse of what is left of the data: half of it gone doubles the error. A generous
    reading of learning curves, whose exponent is mostly between 0.3 and 0.5 (*reconstruction*).
    """
    if share <= 0:
        return 0.0
    left = 1.0 - min(share, 1.0)
    error = max(1.0 - accuracy, LEAST_ERROR)
    return accuracy if error >= left else min(accuracy, error / left - error)


def _deviation(before: float, after: float, samples: int) -> float:
    """Standard deviation of the difference of two shares of `samples`, each drawn towards 0.5 by two samples."""
    variance = 0.0
    for share in (before, after):
        drawn = (share * samples + 1.0) / (samples + 2.0)
        variance += drawn * (1.0 - drawn) / samples
    return math.sqrt(variance)


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile of ordered values, linear between neighbours."""
    position = share * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])


def measure(subject: Subject, generator: torch.Generator) -> Finding:
    """Right answers a class before and after on a client's unseen samples, if any, and the sums of both losses."""
    if subject.before is None:
        raise DataError("harm needs the model before unlearning; send it along.")
    samples = subject.held_out
    if not len(samples):
        return {}
    before, after = (subject.evaluate(state, samples) for state in (subject.before, subject.model))
    found: dict[str, Any] = {}
    for when, answers in (("before", before), ("after", after)):
        counted = tally(answers, samples.labels, subject.classes)
        found["total"] = counted["total"]
        if "correct" in counted:
            found[when] = counted["correct"]
    if len(samples) >= MINIMUM_SAMPLES:
        found["samples"] = len(samples)
        found["loss_before"] = float(before.losses.double().sum())
        found["loss_after"] = float(after.losses.double().sum())
    return found


def combine(gathered: Gathered) -> Mapping[str, Value]:
    """How those who keep samples fared: client by client, and class by class over all of them."""
    findings = [finding for finding in gathered.remaining.values() if finding]
    before, after = ([_share(one, when) for one in findings] for when in ("before", "after"))
    accuracies, changes = over_clients(after), harm(before, after)
    values: dict[str, Value] = dict.fromkeys(
        names(), Value.refusal(f"{NAME} needs unseen samples of a client, and of accuracies a task that has some.")
    )
    if accuracies is not None and changes is not None:
        values |= {
            NAME: Value(changes.change.mean),
            f"{NAME}.worst": Value(changes.change.worst),
            f"{NAME}.worst_tenth": Value(changes.change.tenth),
            f"{NAME}.spread": Value(changes.spread),
            f"{NAME}.clients_harmed": Value(changes.harmed),
            f"{NAME}.accuracy_mean": Value(accuracies.mean),
            f"{NAME}.accuracy_worst": Value(accuracies.worst),
            f"{NAME}.accuracy_worst_tenth": Value(accuracies.tenth),
            f"{NAME}.classes_harmed": Value(len(_harmed_classes(findings, gathered.forgotten_classes))),
        }
    lost_before, lost_after = ([_mean(one, f"loss_{when}") for one in findings] for when in ("before", "after"))
    of_losses = harm(lost_before, lost_after, lower_is_better=True)
    if of_losses is not None:
        values[f"{NAME}.loss"] = Value(of_losses.change.mean)
        values[f"{NAME}.loss_worst"] = Value(of_losses.change.worst)
    return values


def names() -> tuple[str, ...]:
    """Names of the values that `combine` gives."""
    details = ("worst", "worst_tenth", "spread", "clients_harmed", "accuracy_mean", "accuracy_worst")
    more = ("accuracy_worst_tenth", "classes_harmed", "loss", "loss_worst")
    return (NAME, *(f"{NAME}.{detail}" for detail in (*details, *more)))


def _harmed_classes(findings: Sequence[Finding], forgotten: Collection[int]) -> list[ClassHarm]:
    total = add(_lists_of_classes(findings)) or {"before": [], "after": [], "total": []}
    before, after = (
        accuracy.combine({"correct": total[when], "total": total["total"]}).by_class for when in ("before", "after")
    )
    return harmful_classes(before, after, total["total"], forgotten, LIMIT)


def _lists_of_classes(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    return [{name: one[name] for name in ("before", "after", "total")} for one in findings]


def _share(finding: Finding, when: str) -> float | None:
    return None if when not in finding else sum(finding[when]) / sum(finding["total"])  # type: ignore[arg-type]


def _mean(finding: Finding, name: str) -> float | None:
    return finding[name] / finding["samples"] if "samples" in finding else None  # type: ignore[operator]
