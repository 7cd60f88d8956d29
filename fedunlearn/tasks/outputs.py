"""What a model answers, in numbers that a distance can be taken of: a completed image, or a probability a class.

Distances are root mean squares over what is judged, the pixels of an image's region or the classes, and never sums: so
an error, a displacement and a threshold compare across sizes. Of a classifier it is the probabilities, for logits have
no truth that an error could be measured to.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedunlearn.data.dataset import Samples
from fedunlearn.errors import SettingsError
from fedunlearn.tasks.base import ImageToImageTask, LogitsTask, Task
from fedunlearn.tasks.training import modes_kept

BATCH = 64


def answers(task: Task, model: nn.Module, samples: Samples) -> Tensor:
    """What the model answers to `samples`, in evaluation mode: N x C x H x W, 0 to 1, or N x K; no gradient."""
    return by_batch(task, model, samples, lambda inputs, labels: answer(task, model, inputs))


def errors(task: Task, model: nn.Module, samples: Samples) -> Tensor:
    """Root mean square distance of each answer from the truth, N: the image itself, or 1 for the recorded label."""

    def error(inputs: Tensor, labels: Tensor) -> Tensor:
        answered = answer(task, model, inputs)
        truth = inputs if isinstance(task, ImageToImageTask) else functional.one_hot(labels, answered.shape[1]).float()
        return mean_squares(task, inputs, answered - truth).sqrt()

    return by_batch(task, model, samples, error)


def displacements(task: Task, model: nn.Module, samples: Samples, before: Tensor) -> Tensor:
    """Root mean square distance of each answer from an earlier one, N.

    Args:
        before: what `answers` gave for the same samples.
    """
    earlier = iter(before.split(BATCH))

    def displacement(inputs: Tensor, labels: Tensor) -> Tensor:
        return mean_squares(task, inputs, answer(task, model, inputs) - next(earlier)).sqrt()

    return by_batch(task, model, samples, displacement)


def answer(task: Task, model: nn.Module, inputs: Tensor) -> Tensor:
    """What the model answers to one batch, N x C x H x W, 0 to 1, or N x K; in the mode that the model is in.

    Raises:
        SettingsError: the task answers with neither.
    """
    if isinstance(task, ImageToImageTask):
        return task.reconstruct(model, inputs)
    if isinstance(task, LogitsTask):
        return task.predict(model, inputs).softmax(dim=1)
    raise SettingsError(
        f"task {task.name!r} answers neither with images nor with scores of classes, so that no distance can be taken; "
        "give it `reconstruct` and `region`, or `predict`."
    )


def mean_squares(task: Task, inputs: Tensor, difference: Tensor) -> Tensor:
    """Mean over what is judged of the squares of each difference between two answers to `inputs`, N."""
    if not isinstance(task, ImageToImageTask):
        return difference.square().mean(dim=1)
    weights = task.region(inputs).expand_as(difference).flatten(1)
    return (weights * difference.flatten(1).square()).sum(dim=1) / weights.sum(dim=1)


@torch.no_grad()
def by_batch(task: Task, model: nn.Module, samples: Samples, compute: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The same batches for everything that is compared: a task may draw what it degrades for a batch."""
    with modes_kept(model):
        model.eval()
        parts = [
            compute(task.inputs(samples.inputs[batch]), samples.labels[batch])
            for batch in torch.arange(len(samples)).split(BATCH)
        ]
    return torch.cat(parts)
