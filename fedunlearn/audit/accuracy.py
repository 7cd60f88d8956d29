"""Accuracy, over all samples and class by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedunlearn.audit.checks import same_length


@dataclass(frozen=True)
class Accuracy:
    """Shares of right answers, 0 to 1; None where there was no sample.

    Attributes:
        overall: right answers over all samples.
        by_class: the same among the samples of each class, in the order of the classes.
        samples: how many samples there were.
    """

    overall: float | None
    by_class: tuple[float | None, ...]
    samples: int

    def over(self, classes: Sequence[int]) -> float | None:
        """Mean of the accuracies of `classes`, each class counting the same; None where none has a sample."""
        known = [share for index in classes if (share := self.by_class[index]) is not None]
        return sum(known) / len(known) if known else None


def count(predictions: Tensor, labels: Tensor, classes: int) -> dict[str, list[int]]:
    """Right answers and samples of each class.

    Args:
        predictions: predicted classes, int64, (N,).
        labels: recorded classes, int64, (N,), each in 0..classes-1.

    Returns:
        {"correct": K counts, "total": K counts}.
    """
    same_length(predictions=predictions, labels=labels)
    labels = labels.detach().cpu()
    right = labels[predictions.detach().cpu() == labels]
    return {
        "correct": torch.bincount(right, minlength=classes).tolist(),
        "total": torch.bincount(labels, minlength=classes).tolist(),
    }


def combine(counts: Mapping[str, list[int]]) -> Accuracy:
    """Accuracy of the (summed) counts; without the right answers ("correct") nothing but the number of samples."""
    total = counts["total"]
    samples = sum(total)
    if "correct" not in counts:
        return Accuracy(None, (None,) * len(total), int(samples))
    correct = counts["correct"]
    return Accuracy(
        overall=sum(correct) / samples if samples else None,
        by_class=tuple(right / shown if shown else None for right, shown in zip(correct, total, strict=True)),
        samples=int(samples),
    )
