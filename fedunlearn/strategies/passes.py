"""Passes over a client's samples that the centralised methods share: their recipe, and losses with a goal a sample."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedunlearn.channels.packing import Portion
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.strategies.method import Reply, Work
from fedunlearn.strategies.moving_averages import averages_follow
from fedunlearn.strategies.option import positive, whole
from fedunlearn.strategies.recovery import local_recipe
from fedunlearn.tasks.base import LossFromLogits, Task, with_classes
from fedunlearn.tasks.training import TrainingSettings, evaluate, train_locally

ByPosition = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""`(model, inputs, positions) -> losses`; positions are indices into the samples that are trained on."""

FORGET_OPTIONS = frozenset({"forget_rate", "forget_epochs"})


def forget_recipe(work: Work, rate: float = 1.0) -> TrainingSettings:
    """The recipe of a target's own passes over its forget set.

    Options: `forget_rate`, its learning rate as a multiple of the rounds' (default: `rate`), and `forget_epochs`, its
    passes (default: the request's local epochs). Raises SettingsError for values that are none.
    """
    recipe = local_recipe(work.training, work.settings)
    epochs = whole(work.settings, "forget_epochs", recipe.local_epochs, lowest=1)
    factor = positive(work.settings, "forget_rate", rate)
    return replace(recipe, local_epochs=epochs, learning_rate=factor * recipe.learning_rate)


def check_forget_options(settings: UnlearnSettings) -> None:
    """Raise SettingsError for a `forget_rate` or `forget_epochs` that is none."""
    positive(settings, "forget_rate", 1.0)
    whole(settings, "forget_epochs", settings.local_epochs, lowest=1)


def train_by_position(work: Work, samples: Samples, loss: ByPosition, recipe: TrainingSettings) -> Reply:
    """Train the model on `samples` with a loss that knows which sample is which, and answer with its moving part."""
    portion = None if work.mask is None else work.portion
    return _train(work, samples, loss, recipe, portion)


def train_forgetting(work: Work, samples: Samples, loss: ByPosition, recipe: TrainingSettings) -> Reply:
    """As `train_by_position`, but normalisation layers keep their statistics: the forget set is not to shape them."""
    learnt = {name for name, _ in work.model.named_parameters()}
    portion = Portion({name: rows for name, rows in work.portion.rows.items() if name in learnt})
    return _train(work, samples, loss, recipe, portion)


def _train(work: Work, samples: Samples, loss: ByPosition, recipe: TrainingSettings, portion: Portion | None) -> Reply:
    numbered = Samples(samples.inputs, torch.arange(len(samples)))
    with averages_follow(work.model):
        result = train_locally(work.task, work.model, numbered, recipe, work.generator, portion=portion, loss=loss)
    held = len(work.forget) + len(work.retain)
    return work.updated(len(samples), loss=result.mean_loss, epochs=recipe.local_epochs * len(samples) / held)


def answers(work: Work, state: Mapping[str, Tensor], samples: Samples) -> Tensor:
    """Logits, N x K, of the model in `state` (a teacher) for `samples`, in evaluation mode."""
    teacher = copy.deepcopy(work.model)
    teacher.load_state_dict(dict(state))
    return evaluate(work.task, teacher, samples).logits


def losses_and_logits(task: Task, model: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The task's loss of each sample (N) and the logits (N x K), from one forward pass where the task allows it."""
    logits = with_classes(task).predict(model, inputs)
    if isinstance(task, LossFromLogits):
        return task.loss_from_logits(logits, labels), logits
    return task.loss(model, inputs, labels), logits


def divergence(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """Kullback-Leibler divergence of the student from the teacher, N, in nats, times the temperature squared.

    Args:
        teacher: logits, N x K.
        student: logits, N x K.
        temperature: both logits are divided by it; its square keeps the size of gradients (Hinton et al., 2015).
    """
    expected = functional.log_softmax(teacher / temperature, dim=1)
    shown = functional.log_softmax(student / temperature, dim=1)
    apart = functional.kl_div(shown, expected, reduction="none", log_target=True).sum(dim=1)
    return apart * temperature**2


def wrong_labels(labels: Tensor, classes: int, generator: torch.Generator) -> Tensor:
    """For each label another one, uniformly among the rest; with one class alone there is no other.

    Args:
        labels: N, int64, 0 to K - 1.
        classes: K.
    """
    steps = torch.randint(1, max(2, classes), labels.shape, generator=generator)
    return (labels + steps) % classes
