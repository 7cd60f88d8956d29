"""Giving each forgotten sample to the nearest wrong class, so that the region of its own closes (boundary shrink)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from fedunlearn.data.dataset import Samples
from fedunlearn.strategies.method import Reply, Work
from fedunlearn.strategies.passes import forget_recipe, train_forgetting
from fedunlearn.tasks.base import Task, with_classes

BOUND = 0.1
"""Length of the step that looks for it, in units of the network's inputs (the authors')."""
_BATCH = 128


def shrink(work: Work, rate: float, bound: float = BOUND) -> Reply:
    """Train what moves on the forget set under the labels that are nearest in the original model.

    Args:
        rate: of the step, as a multiple of the rounds'; the options of `forget_recipe` override it.
        bound: see `nearest_wrong_labels`.
    """
    original = copy.deepcopy(work.model)
    original.load_state_dict(dict(work.base))
    labels = nearest_wrong_labels(work.task, original, work.forget, bound)

    def loss(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        return work.task.loss(model, inputs, labels[positions])

    return train_forgetting(work, work.forget, loss, forget_recipe(work, rate))


def nearest_wrong_labels(task: Task, model: nn.Module, samples: Samples, bound: float = BOUND) -> Tensor:
    """For each sample the class, other than its own, that the model favours after an FGSM step of `bound`, (N,).

    Of a stamped sample it is what the image shows, of a mislabelled one its true class: a model that never saw the
    samples answers so too. After Chen et al. 2023 (arXiv 2303.11570, boundary shrink); leaving the recorded class out
    of the answers is *reconstruction*.

    Raises:
        SettingsError: the task answers with no classes.
    """
    model.eval()
    found = []
    everything = task.inputs(samples.inputs)
    lowest, highest = float(everything.min()), float(everything.max())
    for start in range(0, len(samples), _BATCH):
        inputs = everything[start : start + _BATCH].clone().requires_grad_()
        labels = samples.labels[start : start + _BATCH]
        [slope] = torch.autograd.grad(task.loss(model, inputs, labels).sum(), [inputs])
        with torch.no_grad():
            moved = (inputs + bound * slope.sign()).clamp(lowest, highest)
            logits = with_classes(task).predict(model, moved)
            found.append(logits.scatter(1, labels[:, None], -torch.inf).argmax(dim=1))
    return torch.cat(found)
