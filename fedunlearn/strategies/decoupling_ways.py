"""What gradient ascent raises on a forget set, so that the answers to it leave those of before.

A network's loss may have terms that paint nothing (the cross-entropy of a VQ-GAN's tokens): they grow without an end
while answers stay where they are, and retention does not come back from there. Where the answers can be
differentiated it is therefore their own error that is raised; of an auto-encoder the two are the same. All that is here
is *reconstruction*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from fedunlearn.data.dataset import Samples
from fedunlearn.tasks.base import ImageToImageTask, Task
from fedunlearn.tasks.outputs import answer, mean_squares


class Way(Protocol):
    """What is raised from the original on, step by step."""

    def __call__(self, batch: Tensor, first: bool) -> Tensor:
        """The number to raise, a differentiable scalar, for samples of the forget set by their positions.

        Args:
            first: no step was taken yet.
        """


@dataclass(frozen=True)
class Loss:
    """The task's own loss."""

    task: Task
    model: nn.Module
    forget: Samples

    def __call__(self, batch: Tensor, first: bool) -> Tensor:
        inputs = self.task.inputs(self.forget.inputs[batch])
        return self.task.loss(self.model, inputs, self.forget.labels[batch]).mean()


@dataclass(frozen=True)
class Error:
    """The mean squared error of the completed images in their region."""

    task: ImageToImageTask
    model: nn.Module
    forget: Samples

    def __call__(self, batch: Tensor, first: bool) -> Tensor:
        inputs = self.task.inputs(self.forget.inputs[batch])
        return mean_squares(self.task, inputs, answer(self.task, self.model, inputs) - inputs).mean()


@dataclass(frozen=True)
class OtherWay:
    """Out on the side where the answers' error at first falls, then away from the earlier answers.

    A faint answer has its largest error at its strokes, so that raising the error makes it fainter. It ends at black,
    where nothing has a gradient, though black may be nearer than the threshold. White is on the other side.

    Attributes:
        error: lowered in the first step.
        before: the original's answers to the forget set.
        threshold: lambda; a sample that is displaced by it counts no more.
    """

    error: Error
    before: Tensor
    threshold: float

    def __call__(self, batch: Tensor, first: bool) -> Tensor:
        if first:
            return -self.error(batch, first)
        task, model, forget = self.error.task, self.error.model, self.error.forget
        inputs = task.inputs(forget.inputs[batch])
        squares = mean_squares(task, inputs, answer(task, model, inputs) - self.before[batch])
        return (squares * (squares.detach() < self.threshold**2)).mean()


def ways(task: Task, model: nn.Module, forget: Samples, before: Tensor, threshold: float) -> Sequence[Way]:
    """The ways out, in the order in which they are tried.

    Args:
        before: what `fedunlearn.tasks.outputs.answers` gives for `forget`.
        threshold: lambda, a root mean square distance.
    """
    if isinstance(task, ImageToImageTask):
        with torch.enable_grad():
            differentiable = answer(task, model, task.inputs(forget.inputs[:1])).requires_grad
        if differentiable:
            error = Error(task, model, forget)
            return [error, OtherWay(error, before, threshold)]
    return [Loss(task, model, forget)]
