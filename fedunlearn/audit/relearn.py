"""Relearning time: how many training steps bring the forgotten samples back? (Tarun et al. 2021)

Compare with the retrained model's own: far fewer steps mean that information is left, far more that the model
was damaged on purpose where the samples lie.
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import nn

from fedunlearn.data.dataset import Samples
from fedunlearn.errors import DataError
from fedunlearn.tasks.base import Task
from fedunlearn.tasks.training import TrainingSettings, descent, evaluate


def relearn_steps(
    task: Task,
    model: nn.Module,
    samples: Samples,
    settings: TrainingSettings,
    threshold: float,
    max_epochs: int,
    generator: torch.Generator,
    figure: Literal["accuracy", "loss"] = "accuracy",
) -> int | None:
    """Batches of training on `samples` until the accuracy on them is `threshold` or more, or the loss that or less.

    0 where it is already; None where `max_epochs` passes do not reach it. A copy is trained: `model` stays as
    it was.

    Args:
        samples: the forget set, with its recorded labels.
        settings: learning rate, momentum, weight decay and batch size; `local_epochs` is not used.
        threshold: accuracy to reach, 0 to 1, or mean loss (the original model's, or a stated multiple of it).
        generator: shuffles the batches; equal generators give equal counts.
        figure: what has to reach the threshold.

    Raises:
        DataError: there are no samples.
    """
    if not len(samples):
        raise DataError("relearning needs samples; got none.")
    if _reached(task, model, samples, figure, threshold):
        return 0
    # In evaluation mode normalisation keeps its statistics, and a batch of one sample can be trained on.
    learner = copy.deepcopy(model).requires_grad_(True).eval()
    optimizer = descent(list(learner.parameters()), settings)
    steps = 0
    for _ in range(max_epochs):
        for batch in torch.randperm(len(samples), generator=generator).split(settings.batch_size):
            optimizer.zero_grad()
            part = samples.take(batch)
            task.loss(learner, task.inputs(part.inputs), part.labels).mean().backward()
            optimizer.step()
            steps += 1
            if _reached(task, learner, samples, figure, threshold):
                return steps
    return None


def _reached(task: Task, model: nn.Module, samples: Samples, figure: str, threshold: float) -> bool:
    evaluation = evaluate(task, model, samples)
    if figure == "loss":
        return float(evaluation.losses.double().mean()) <= threshold
    return float((evaluation.predictions == samples.labels).double().mean()) >= threshold
