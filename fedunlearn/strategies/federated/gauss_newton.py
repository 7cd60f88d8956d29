"""The diagonal of the Gauss-Newton matrix: how much information samples carry about each weight."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from fedunlearn.channels.layout import evaluation_mode
from fedunlearn.data.dataset import Samples
from fedunlearn.tasks.base import Task, with_classes
from fedunlearn.tasks.training import evaluate

CHUNK = 64
"""Gradients that are in memory at a time."""
NEGLIGIBLE = 1e-4
"""Answers of a lower probability are left out: what they would add is smaller by that factor than what others do."""


def gauss_newton_diagonal(task: Task, model: nn.Module, samples: Samples) -> dict[str, Tensor]:
    """Mean over the samples of the diagonal of the Gauss-Newton matrix of the cross-entropy, float64 by parameter.

    For a softmax it is sum_c p_c (d log p_c / d w)^2, with p the model's own answer; every sample costs one backward
    pass for each class that is not negligible. Labels have no part in it. The model is in evaluation mode and left as
    it was.
    """
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    buffers = {name: buffer.detach() for name, buffer in model.named_buffers()}
    total = {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in parameters.items()}
    prediction = _Prediction(task, model)

    def log_probability(weights: Mapping[str, Tensor], one: Tensor, number: Tensor) -> Tensor:
        held = {f"model.{name}": tensor for name, tensor in {**weights, **buffers}.items()}
        logits: Tensor = functional_call(prediction, held, (one[None],))
        return logits.log_softmax(dim=1)[0].gather(0, number[None])[0]

    per_pair = vmap(grad(log_probability), in_dims=(None, 0, 0), randomness="same")
    answers = evaluate(task, model, samples).logits.to(torch.float64).softmax(dim=1)
    pairs = (answers >= NEGLIGIBLE).nonzero()
    with evaluation_mode(model):
        for positions, classes in (part.unbind(1) for part in pairs.split(CHUNK)):
            gradients = per_pair(parameters, task.inputs(samples.inputs[positions]), classes)
            for name, gradient in gradients.items():
                squares = gradient.to(torch.float64).square()
                total[name] += torch.tensordot(answers[positions, classes], squares, dims=1)
    return {name: one / max(1, len(samples)) for name, one in total.items()}


class _Prediction(nn.Module):
    """The task's prediction as a module, so that it can be called with other weights."""

    def __init__(self, task: Task, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._task = task

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits N x classes."""
        return with_classes(self._task).predict(self.model, inputs)
