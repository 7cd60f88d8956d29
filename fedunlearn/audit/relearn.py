"""Relearning time: how many training steps bring the forgotten samples back? (Tarun et al. 2021)

Compare with the retrained model's own: far fewer steps mean that information is left, far more that the model
was damaged on purpose where the samples lie.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from fedunlearn.data.dataset import Samples
from fedunlearn.errors import DataError
from fedunlearn.tasks.base import Task
from fedunlearn.tasks.training import TrainingSettings, evaluate


def relearn_steps(
    task: Task,
    model: nn.Module,
    samples: Samples,
    settings: TrainingSettings,
    threshold: float,
    max_epochs: int,
    generator: torch.Generator,
) -> int | None:
    """Batches of training on `samples` until the accuracy on them is `threshold` or more.

    0 where it is already; None where `max_epochs` passes do not reach it. A copy is trained: `model` stays as
    it was.

    Args:
        samples: the forget set, with its recorded labels.
        settings: learning rate, momentum, weight decay and batch size; `local_epochs` is not used.
        threshold: accuracy to reach, 0 to 1 (the original model's, or a stated share of it).
        generator: shuffles the batches; equal generators give equal counts.

    Raises:
        DataError: there are no samples.
    """
    if not len(samples):
        raise DataError("relearning needs samples; got none.")
    if _accuracy(task, model, samples) >= threshold:
        return 0
    # In evaluation mode normalisation keeps its statistics, and a batch of one sample can be trained on.
    learner = copy.deepcopy(model).requires_grad_(True).eval()
    optimizer = torch.optim.SGD(
        learner.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    steps = 0
    for _ in range(max_epochs):
        for batch in torch.randperm(len(samples), generator=generator).split(settings.batch_size):
            optimizer.zero_grad()
            part = samples.take(batch)
            task.loss(learner, task.inputs(part.inputs), part.labels).mean().backward()
            optimizer.step()
            steps += 1
            if _accuracy(task, learner, samples) >= threshold:
                return steps
    return None


def _accuracy(task: Task, model: nn.Module, samples: Samples) -> float:
    evaluation = evaluate(task, model, samples)
    return float((evaluation.predictions == samples.labels).double().mean())
