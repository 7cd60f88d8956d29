"""Boundary shrink: each forgotten sample is given to the nearest wrong class, so that its class's region closes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.strategies.aggregation import average
from fedunlearn.strategies.centralised.passes import FORGET_OPTIONS, forget_recipe, train_forgetting
from fedunlearn.strategies.method import EVERY_SCOPE, Need, Phase, Reply, Scope, Work, methods
from fedunlearn.strategies.option import positive, whole
from fedunlearn.strategies.recovery import RECOVER, send_packed
from fedunlearn.tasks.base import Task, with_classes

BOUND, FORGET_RATE = 0.1, 0.3
BATCH = 128


@dataclass(frozen=True)
class BoundaryShrink:
    """The target trains on its forget set under the labels of the nearest wrong classes, then recovery rounds follow.

    The nearest wrong class is what the original model answers, out of all classes but the recorded one, after a step
    of `bound` along the sign of the loss's gradient by the input (FGSM), within the range of the inputs.

    Options: `bound` (default 0.1, in units of the network's inputs), `forget_rate` (default 0.3) and `forget_epochs`
    (see `forget_recipe`); the authors' rate of 1e-5 over ten passes leaves a model of this scale as it is.
    """

    name: str = "boundary-shrink"
    source: str = (
        "Chen et al. 2023, arXiv 2303.11570 (boundary unlearning); reconstruction: the recorded class is left out of "
        "the answers, and recovery rounds on retained data follow"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target", "class-scores"})
    earnest: bool = False
    options: frozenset[str] = frozenset({"bound"}) | FORGET_OPTIONS

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """The target's passes, then `settings.rounds` recovery rounds."""
        positive(settings, "bound", BOUND)
        positive(settings, "forget_rate", FORGET_RATE)
        whole(settings, "forget_epochs", settings.local_epochs, lowest=1)
        shrink = Phase("train.forget", "target", send_packed, _shrink, average)
        return [shrink, *[RECOVER] * settings.rounds]


def _shrink(work: Work) -> Reply:
    original = copy.deepcopy(work.model)
    original.load_state_dict(dict(work.base))
    bound = positive(work.settings, "bound", BOUND)
    labels = nearest_wrong_labels(work.task, original, work.forget, bound)

    def loss(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        return work.task.loss(model, inputs, labels[positions])

    return train_forgetting(work, work.forget, loss, forget_recipe(work, FORGET_RATE))


def nearest_wrong_labels(task: Task, model: nn.Module, samples: Samples, bound: float) -> Tensor:
    """For each sample the class, other than its own, that the model favours after an FGSM step of `bound`, (N,)."""
    model.eval()
    found = []
    everything = task.inputs(samples.inputs)
    lowest, highest = float(everything.min()), float(everything.max())
    for start in range(0, len(samples), BATCH):
        inputs = everything[start : start + BATCH].clone().requires_grad_()
        labels = samples.labels[start : start + BATCH]
        [slope] = torch.autograd.grad(task.loss(model, inputs, labels).sum(), [inputs])
        with torch.no_grad():
            moved = (inputs + bound * slope.sign()).clamp(lowest, highest)
            logits = with_classes(task).predict(model, moved)
            found.append(logits.scatter(1, labels[:, None], -torch.inf).argmax(dim=1))
    return torch.cat(found)


methods.register("boundary-shrink", BoundaryShrink())
