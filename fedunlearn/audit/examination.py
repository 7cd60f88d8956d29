"""What a client says about a model on one group of its samples, and what the server reads from it.

Only counts, sums and fixed-bin histograms are made; groups of fewer than 20 samples give counts alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fedunlearn.audit import accuracy, canary, loss
from fedunlearn.audit.counts import add
from fedunlearn.audit.loss_histogram import histogram
from fedunlearn.data.dataset import Samples
from fedunlearn.tasks.base import Task
from fedunlearn.tasks.training import evaluate

FORGET_PARTS = ("triggered", "untriggered", "canaries")
"""What a planted forget set is made of."""
Findings = dict[str, int | float | list[int]]


def examine(
    task: Task,
    model: nn.Module,
    samples: Samples,
    classes: int,
    true_labels: Tensor | None = None,
    counts_alone: bool = False,
) -> Findings:
    """Counts, sums and a histogram of one group of samples, by flat names.

    Args:
        samples: the group, at least one sample.
        classes: number of classes K.
        true_labels: given for canaries, whose recorded labels are wrong; adds their exposure.
        counts_alone: leave sums and histogram out, whatever the group's size.
    """
    result = evaluate(task, model, samples)
    found: Findings = dict(accuracy.count(result.predictions, samples.labels, classes))
    if counts_alone:
        return found
    losses = loss.count(result.losses)
    if losses is not None:
        found["loss-sum"], found["loss-samples"] = losses["sum"], losses["samples"]
    binned = histogram(result.losses)
    if binned is not None:
        found["histogram"] = binned
    exposed = None if true_labels is None else canary.count(result.logits, true_labels, samples.labels)
    if exposed is not None:
        found["exposure-sum"], found["exposure-samples"] = exposed["sum"], exposed["samples"]
    return found


@dataclass(frozen=True)
class Group:
    """One group of samples as the audit sees it: any value is None where it was withheld or does not apply."""

    accuracy: float | None
    by_class: tuple[float | None, ...]
    per_class_count: tuple[int, ...]
    loss: float | None
    count: int
    histogram: list[int] | None
    exposure: float | None

    def summary(self) -> dict[str, Any]:
        """Accuracy, mean log-loss and number of samples, as the comparison prints them."""
        return {"accuracy": self.accuracy, "loss": self.loss, "count": self.count}


def read(findings: Iterable[Mapping[str, Any]]) -> Group | None:
    """The group that several clients' findings add up to; None when nobody holds a sample of it.

    What one client withheld is left out of the sums of that kind only.
    """
    parts = [part for part in findings if part]
    counts = add({"correct": part["correct"], "total": part["total"]} for part in parts)
    if counts is None:
        return None
    right = accuracy.combine(counts)  # type: ignore[arg-type]
    losses = _sum_of(parts, "loss-sum", "loss-samples")
    exposures = _sum_of(parts, "exposure-sum", "exposure-samples")
    binned = add({"h": part["histogram"]} for part in parts if "histogram" in part)
    return Group(
        accuracy=right.overall,
        by_class=right.by_class,
        per_class_count=tuple(int(n) for n in counts["total"]),  # type: ignore[union-attr]
        loss=losses,
        count=right.samples,
        histogram=None if binned is None else binned["h"],  # type: ignore[arg-type]
        exposure=exposures,
    )


def _sum_of(parts: Iterable[Mapping[str, Any]], total: str, number: str) -> float | None:
    known = [part for part in parts if part.get(number)]
    return sum(part[total] for part in known) / sum(part[number] for part in known) if known else None
