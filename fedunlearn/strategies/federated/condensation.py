"""Condensing samples into a few synthetic ones, by matching the gradients that both give a model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fedunlearn.channels.layout import evaluation_mode
from fedunlearn.tasks.base import Task


def starting_images(inputs: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` images to start from: the mean of N inputs plus noise of their deviation, no sample itself."""
    mean, spread = inputs.mean(dim=0), inputs.std(dim=0, correction=0)
    return mean + 0.5 * spread * torch.randn((count, *inputs.shape[1:]), generator=generator)


def gradient_distance(real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Tensor:
    """How differently two lists of gradients point: the sum over output rows of 1 - cosine (Zhao et al. 2021).

    Vectors (biases, normalisation) count as one row each, a tensor without any length as no row.
    """
    total = torch.zeros(())
    for one, other in zip(real, synthetic, strict=True):
        rows, others = (g.flatten(1) if g.dim() > 1 else g.reshape(1, -1) for g in (one, other))
        lengths = rows.norm(dim=1) * others.norm(dim=1)
        cosines = (rows * others).sum(dim=1) / lengths.clamp_min(1e-12)
        total = total + torch.where(lengths > 1e-12, 1 - cosines, 0.0).sum()
    return total


def match_gradients(
    task: Task,
    model: nn.Module,
    inputs: Tensor,
    label: int,
    synthetic: Tensor,
    steps: int,
    rate: float,
) -> Tensor:
    """Synthetic images of one class after some steps that bring their gradient nearer to that of the real inputs.

    Args:
        model: left as it was, in evaluation mode meanwhile.
        inputs: real inputs of the class, as the model takes them, N x ....
        label: the class.
        synthetic: images to start from, M x ....
        steps: gradient steps on the images.
        rate: their length as a share of the images' own length: each step moves the images by it.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with evaluation_mode(model):
        real = _gradients(task, model, parameters, inputs, label, differentiable=False)
        for _ in range(steps):
            images = synthetic.detach().requires_grad_()
            own = _gradients(task, model, parameters, images, label, differentiable=True)
            (slope,) = torch.autograd.grad(gradient_distance(real, own), images)
            length = slope.norm()
            if float(length) == 0.0:
                break
            synthetic = synthetic - rate * synthetic.norm() / length * slope
    return synthetic.detach()


def _gradients(
    task: Task, model: nn.Module, parameters: list[nn.Parameter], inputs: Tensor, label: int, differentiable: bool
) -> list[Tensor]:
    labels = torch.full((len(inputs),), label, dtype=torch.int64)
    loss = task.loss(model, inputs, labels).mean()
    found = torch.autograd.grad(loss, parameters, create_graph=differentiable, allow_unused=True)
    return [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(parameters, found, strict=True)
    ]
