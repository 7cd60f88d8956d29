"""Local training and evaluation of a model: what a client computes in every round."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from fedunlearn.channels.packing import Portion
from fedunlearn.config import FederationSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import DataError, SettingsError
from fedunlearn.tasks.base import LogitsTask, LossFromLogits, Task
from fedunlearn.tasks.channels_last import norms_channels_first, weights_channels_last
from fedunlearn.tasks.device import THIS_PROCESSOR, Device
from fedunlearn.tasks.randomness import isolated_seed
from fedunlearn.tasks.selected_parameters import SelectedParameters
from fedunlearn.tasks.shortened import ShortenedModel

BatchNorm = nn.modules.batchnorm._BatchNorm
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
MakeOptimizer = Callable[[list[Tensor]], torch.optim.Optimizer]


@dataclass(frozen=True)
class TrainingSettings:
    """Stochastic gradient descent on a client.

    Args:
        local_epochs: passes over the samples.
        learning_rate: step size.
        momentum: 0 for none; starts from zero in every call.
        weight_decay: added to the gradient, times the weight (L2).
        batch_size: samples a step.
        proximal_mu: FedProx's pull towards the anchor (Li et al., 2020); 0 regresses to FedAvg.
    """

    local_epochs: int
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch_size: int = 32
    proximal_mu: float = 0.0

    @staticmethod
    def of(settings: FederationSettings) -> TrainingSettings:
        """The clients' local recipe, as the federation's settings state it."""
        return TrainingSettings(
            local_epochs=settings.local_epochs,
            learning_rate=settings.learning_rate,
            momentum=settings.momentum,
            batch_size=settings.batch_size,
        )


@dataclass(frozen=True)
class TrainingResult:
    """What training tells.

    Args:
        mean_loss: mean over every sample of every epoch, as seen while training; NaN where training diverged.
        batches: steps taken.
        samples: different samples trained on.
    """

    mean_loss: float
    batches: int
    samples: int


@dataclass(frozen=True)
class Evaluation:
    """A model's answers for N samples, in their order.

    Attributes:
        losses: of each sample, N.
        scores: N x K where the task answers with classes; None where it does not.
    """

    losses: Tensor
    scores: Tensor | None = None

    @property
    def logits(self) -> Tensor:
        """Scores of the classes, N x K. Raises SettingsError for a task that answers with something else."""
        if self.scores is None:
            raise SettingsError("the task answers with no classes, and class scores are asked of it; leave that out.")
        return self.scores

    @property
    def predictions(self) -> Tensor:
        """Predicted classes, N, int64. Raises SettingsError for a task that answers with something else."""
        return self.logits.argmax(dim=1)


def train_locally(
    task: Task,
    model: nn.Module,
    samples: Samples,
    settings: TrainingSettings,
    generator: torch.Generator,
    portion: Portion | None = None,
    loss: Loss | None = None,
    anchor: Mapping[str, Tensor] | None = None,
    make_optimizer: MakeOptimizer | None = None,
    device: Device = THIS_PROCESSOR,
) -> TrainingResult:
    """Train `model` in place on `samples`, shuffled by `generator`, which also decides about dropout.

    Args:
        portion: the rows that may change; everything else stays bit-identical. BatchNorm layers learn
            statistics only where the portion holds all of theirs whole; elsewhere they use the stored ones.
            None: everything is trained.
        loss: `(model, inputs, labels) -> N` that replaces the task's loss.
        anchor: parameters by name that FedProx pulls towards; None: the model as it was handed in.
        make_optimizer: makes, of the tensors that may change, what replaces the settings' gradient descent (its
            rate, momentum and weight decay then count for nothing).
        device: how to compute; model and samples are there already.

    Raises:
        DataError: there are no samples.
        SettingsError: the portion selects no parameter of the model.
    """
    if len(samples) == 0:
        raise DataError("there is nothing to train on: no sample is left outside what is held out.")
    loss = _computed_on(device, loss or task.loss)
    half = device.precision == "bfloat16"
    with (
        modes_kept(model),
        isolated_seed(_next_number(generator)),
        SelectedParameters(model, portion, settings.proximal_mu, anchor) as selected,
        weights_channels_last(model) if half or selected.some_are_frozen else nullcontext(),
        norms_channels_first(model) if half else nullcontext(),
        _buffers_kept(model, portion),
    ):
        pairs_needed = _start_training(model, portion, len(samples))
        shortened = None
        if selected.some_are_frozen:
            shortened = ShortenedModel(model, selected, loss, settings.local_epochs, len(samples), device.precision)
        optimizer = make_optimizer(selected.leaves) if make_optimizer else descent(selected.leaves, settings)
        total, batches = torch.zeros((), dtype=torch.float64), 0
        for _ in range(settings.local_epochs):
            for batch in shuffled_batches(len(samples), settings.batch_size, generator, pairs_needed):
                labels, make_inputs = samples.labels[batch], partial(_inputs, task, samples, batch)
                called, inputs = (
                    shortened.for_batch(make_inputs, labels, batch) if shortened else (model, make_inputs())
                )
                selected.zero_gradients()
                losses = loss(called, inputs, labels)
                losses.mean().backward()
                selected.collect_gradients()
                optimizer.step()
                selected.write_back()
                total += losses.detach().sum()
                batches += 1
    seen = len(samples) * settings.local_epochs
    return TrainingResult(float(total) / seen if seen else math.nan, batches, len(samples))


@torch.no_grad()
def evaluate(task: Task, model: nn.Module, samples: Samples, batch_size: int = 64) -> Evaluation:
    """The model's losses for `samples`, with its class scores where the task has such; the model is left as it was.

    No samples give empty tensors. Small batches stay in the processor's cache: larger ones are slower.
    """
    losses, scores = [], []
    with modes_kept(model):
        model.eval()
        # One batch at least, so that the shape of the scores shows the number of classes for no samples too.
        for start in range(0, max(1, len(samples)), batch_size):
            inputs = task.inputs(samples.inputs[start : start + batch_size])
            labels = samples.labels[start : start + batch_size]
            if isinstance(task, LogitsTask):
                scores.append(task.predict(model, inputs))
            if isinstance(task, LossFromLogits):
                losses.append(task.loss_from_logits(scores[-1], labels))
            else:
                losses.append(task.loss(model, inputs, labels))
    return Evaluation(torch.cat(losses), torch.cat(scores) if scores else None)


def descent(leaves: list[Tensor], settings: TrainingSettings) -> torch.optim.Optimizer:
    """The settings' gradient descent on these tensors."""
    return torch.optim.SGD(
        leaves,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )


def _computed_on(device: Device, loss: Loss) -> Loss:
    """`loss`, compiled and in the precision that is asked for."""
    if device.plain:
        return loss
    compiled = device.compiled(loss)

    def computed(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        # Weights that it has converted, autocast takes for those of the next step too, unless it ends before.
        with device.autocast():
            return compiled(model, inputs, labels)

    return computed


def _inputs(task: Task, samples: Samples, batch: Tensor) -> Tensor:
    return task.inputs(samples.inputs[batch])


def _next_number(generator: torch.Generator) -> int:
    """What `generator` would draw next, without drawing it: the seed of dropout and the like."""
    ahead = torch.Generator()
    ahead.set_state(generator.get_state())
    return int(torch.randint(2**62, (), generator=ahead))


def shuffled_batches(count: int, batch_size: int, generator: torch.Generator, pairs_needed: bool) -> Iterator[Tensor]:
    """Positions of one epoch's batches, shuffled; with `pairs_needed` none of a single sample where there are more."""
    batches = list(torch.randperm(count, generator=generator).split(batch_size))
    if pairs_needed and len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return iter(batches)


def repeated_batches(count: int, passes: int | None, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Positions of the batches of so many passes, each shuffled anew when it begins; None: without an end."""
    for _ in itertools.count() if passes is None else range(passes):
        yield from shuffled_batches(count, batch_size, generator, pairs_needed=False)


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Whatever happens inside, each module is in training or evaluation mode afterwards as before."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _buffers_kept(model: nn.Module, portion: Portion | None) -> Iterator[None]:
    """Afterwards, rows of buffers that the portion does not select are what they were (moving averages, say)."""
    if portion is None:
        yield
        return
    before = {name: buffer.clone() for name, buffer in model.named_buffers() if portion.rows.get(name, ...) is not None}
    yield
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name in before:
                rows = portion.rows.get(name)
                moved = None if rows is None else buffer.index_select(0, rows)
                buffer.copy_(before[name])
                if rows is not None and moved is not None:
                    buffer.index_copy_(0, rows, moved)


def _start_training(model: nn.Module, portion: Portion | None, samples: int) -> bool:
    """Training mode, but for BatchNorm layers that may not learn; whether a batch needs two samples."""
    model.train()
    learning = False
    for name, module in model.named_modules():
        if isinstance(module, BatchNorm):
            prefix = f"{name}." if name else ""
            buffers = [prefix + buffer for buffer, _ in module.named_buffers(recurse=False)]
            whole = portion is None or all(portion.rows.get(buffer, ...) is None for buffer in buffers)
            # The variance of a single sample is undefined.
            module.train(whole and samples > 1)
            learning = learning or module.training
    return learning
