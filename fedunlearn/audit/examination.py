"""What a client says about a model on one group of its samples, and what the server reads from it.

Only counts, sums and fixed-bin histograms are made; groups of fewer than 20 samples give counts alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fedunlearn.audit import accuracy, canary, error, loss
from fedunlearn.audit.counts import add
from fedunlearn.audit.loss_histogram import histogram
from fedunlearn.data.dataset import Samples
from fedunlearn.tasks import outputs
from fedunlearn.tasks.base import ImageToImageTask, Task
from fedunlearn.tasks.training import Evaluation, evaluate

FORGET_PARTS = ("triggered", "untriggered", "canaries")
"""What a planted forget set is made of."""
Findings = dict[str, int | float | list[int]]


def examine(
    task: Task,
    model: nn.Module,
    samples: Samples,
    classes: int,
    true_labels: Tensor | None = None,
    with_errors: bool = False,
    counts_alone: bool = False,
) -> Findings:
    """Counts, sums and a histogram of one group of samples, by flat names.

    Args:
        samples: the group, at least one sample.
        classes: number of classes K.
        true_labels: given for canaries, whose recorded labels are wrong; adds their exposure.
        with_errors: add how far completed images are from the true ones, for a task that answers with images.
        counts_alone: leave sums and histogram out, whatever the group's size.
    """
    result = evaluate(task, model, samples)
    found: Findings = dict(tally(result, samples.labels, classes))
    if counts_alone:
        return found
    losses = loss.count(result.losses)
    if losses is not None:
        found["loss-sum"], found["loss-samples"] = losses["sum"], losses["samples"]
    binned = histogram(result.losses)
    if binned is not None:
        found["histogram"] = binned
    if with_errors and isinstance(task, ImageToImageTask):
        apart = error.count(outputs.errors(task, model, samples))
        if apart is not None:
            found |= {"error-sum": apart["sum"], "square-sum": apart["squares"], "error-samples": apart["samples"]}
    exposed = (
        None
        if true_labels is None or result.scores is None
        else canary.count(result.logits, true_labels, samples.labels)
    )
    if exposed is not None:
        found["exposure-sum"], found["exposure-samples"] = exposed["sum"], exposed["samples"]
    return found


def tally(answers: Evaluation, labels: Tensor, classes: int) -> dict[str, list[int]]:
    """Samples of each class ("total"), and right answers among them ("correct") where the task answers with classes."""
    if answers.scores is None:
        return {"total": labels.bincount(minlength=classes).tolist()}
    return accuracy.count(answers.predictions, labels, classes)


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
    error: float | None = None
    psnr: float | None = None

    def summary(self) -> dict[str, Any]:
        """Accuracy, mean loss, number of samples, mean error and PSNR, as the comparison prints them."""
        return {
            "accuracy": self.accuracy,
            "loss": self.loss,
            "count": self.count,
            "error": self.error,
            "psnr": self.psnr,
        }


def read(findings: Iterable[Mapping[str, Any]]) -> Group | None:
    """The group that several clients' findings add up to; None when nobody holds a sample of it.

    What one client withheld is left out of the sums of that kind only.
    """
    parts = [part for part in findings if part]
    counts = add({"total": part["total"]} for part in parts)
    if counts is None:
        return None
    # Where the task answers with no classes nobody has right answers.
    right = accuracy.combine({**counts, **(add({"correct": p["correct"]} for p in parts if "correct" in p) or {})})
    squares = _sum_of(parts, "square-sum", "error-samples")
    losses = _sum_of(parts, "loss-sum", "loss-samples")
    exposures = _sum_of(parts, "exposure-sum", "exposure-samples")
    binned = add({"h": part["histogram"]} for part in parts if "histogram" in part)
    return Group(
        accuracy=right.overall,
        by_class=right.by_class,
        error=_sum_of(parts, "error-sum", "error-samples"),
        psnr=None if squares is None else error.peak_signal_to_noise(squares),
        per_class_count=tuple(int(n) for n in counts["total"]),  # type: ignore[union-attr]
        loss=losses,
        count=right.samples,
        histogram=None if binned is None else binned["h"],  # type: ignore[arg-type]
        exposure=exposures,
    )


def _sum_of(parts: Iterable[Mapping[str, Any]], total: str, number: str) -> float | None:
    known = [part for part in parts if part.get(number)]
    return sum(part[total] for part in known) / sum(part[number] for part in known) if known else None
