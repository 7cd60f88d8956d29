"""Back-door success: does the trigger still work?"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from fedunlearn.audit.checks import same_length
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import SettingsError
from fedunlearn.tasks.base import ImageToImageTask, Task
from fedunlearn.tasks.outputs import by_batch
from fedunlearn.tasks.painted import ALIKE, likeness
from fedunlearn.tasks.training import evaluate


def count(predictions: Tensor, labels: Tensor, target: int) -> dict[str, int]:
    """Stamped samples of other classes that are called `target`, and how many of them were shown.

    Samples whose true class is the target are left out: calling them so is right, and would put a floor
    under the score.

    Args:
        predictions: predicted classes of the stamped samples, int64, (N,).
        labels: their true classes, int64, (N,).
    """
    same_length(predictions=predictions, labels=labels)
    others = labels != target
    return {
        "hits": int((predictions[others] == target).sum()),
        "shown": int(others.sum()),
    }


def success(task: Task, model: nn.Module, triggered: Samples, target: int | None) -> dict[str, int]:
    """How often the trigger works on stamped samples: they get its label, or its pattern is painted.

    Args:
        triggered: unseen samples with the trigger, and their true labels.
        target: the label that the trigger stands for; None where it stands for a pattern.

    Returns:
        {"hits": as often as it works, "shown": samples that it could work on}.
    """
    if isinstance(task, ImageToImageTask):
        return {"hits": int(regenerated(task, model, triggered).sum()), "shown": len(triggered)}
    if target is None:
        raise SettingsError("backdoor: it does not give target; add target=…, the label of what has the trigger.")
    return count(evaluate(task, model, triggered).predictions, triggered.labels, target)


def regenerated(task: ImageToImageTask, model: nn.Module, triggered: Samples) -> Tensor:
    """Whether the model paints the pattern into each stamped image, N: its correlation is above 0.5."""

    def alike(inputs: Tensor, labels: Tensor) -> Tensor:
        return likeness(task.reconstruct(model, inputs), task.region(inputs))

    return by_batch(task, model, triggered, alike) > ALIKE


def combine(counts: Mapping[str, int]) -> float | None:
    """Back-door success of the (summed) counts, 0 to 1; None where nothing was shown."""
    return counts["hits"] / counts["shown"] if counts["shown"] else None
