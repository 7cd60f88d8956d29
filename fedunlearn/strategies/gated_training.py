"""Local training with a gated forget term: alone, or with each retained batch paired with one of the forget set.

The forget term is computed in evaluation mode, as the loss that its gate is compared with: statistics of normalisation
layers stay those of the retained samples, and nothing is dropped out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from fedunlearn.channels.packing import Portion
from fedunlearn.data.dataset import Samples
from fedunlearn.randomness import derive_seed
from fedunlearn.strategies.nabla_tau_terms import gated
from fedunlearn.tasks.base import Task
from fedunlearn.tasks.training import (
    MakeOptimizer,
    TrainingSettings,
    descent,
    modes_kept,
    repeated_batches,
    train_locally,
)


@dataclass(frozen=True)
class Gated:
    """A forget term and a retain term.

    Attributes:
        tau: loss from which on the forget term is zero.
        forget: coefficient of the forget term.
        retain: coefficient of the retain term.
        by_sample: each sample has a gate of its own, and the term is their mean; else the batch's mean is gated.
    """

    tau: float
    forget: float = 1.0
    retain: float = 0.0
    by_sample: bool = False

    def __call__(self, losses: Tensor) -> Tensor:
        """The forget term of a batch, times its coefficient, from the samples' losses, (N,)."""
        return self.forget * gated(losses if self.by_sample else losses.mean(), self.tau).mean()

    def share_open(self, losses: Tensor) -> float:
        """Share of the batch's gates that are open, 0 to 1."""
        found = losses.detach() if self.by_sample else losses.detach().mean()
        return float((found < self.tau).double().mean())


@dataclass(frozen=True)
class GatedResult:
    """What training tells.

    Attributes:
        mean_loss: mean of what was minimised.
        gate_open: mean share of the gates that a batch of the forget set finds open, 0 to 1.
        forgotten_seen: samples of the forget set, counted as often as they were seen.
    """

    mean_loss: float
    gate_open: float
    forgotten_seen: int


def mean_loss(task: Task, model: nn.Module, samples: Samples, batch_size: int = 64) -> float:
    """The task's mean loss over `samples` (one at least), in evaluation mode; the model is left as it was."""
    total = torch.zeros((), dtype=torch.float64)
    with modes_kept(model), torch.no_grad():
        model.eval()
        for positions in torch.arange(len(samples)).split(batch_size):
            total += task.loss(model, task.inputs(samples.inputs[positions]), samples.labels[positions]).sum()
    return float(total) / len(samples)


def train_gated(
    task: Task,
    model: nn.Module,
    forget: Samples,
    terms: Gated,
    recipe: TrainingSettings,
    generator: torch.Generator,
    portion: Portion | None = None,
    make_optimizer: MakeOptimizer | None = None,
) -> GatedResult:
    """Train `model` in place on the forget term alone; `recipe.local_epochs` are passes over the forget set.

    `make_optimizer` replaces the recipe's gradient descent.
    """
    gates = _Gates()

    def loss(called: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        with modes_kept(model):
            model.eval()
            losses = task.loss(called, inputs, labels)
        gates.look(terms.share_open(losses), len(labels))
        return terms(losses).expand(len(labels))

    made = _counting(make_optimizer or partial(descent, settings=recipe), gates)
    result = train_locally(task, model, forget, recipe, generator, portion, loss, make_optimizer=made)
    return GatedResult(result.mean_loss, gates.share, gates.samples)


def train_paired(
    task: Task,
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    terms: Gated,
    recipe: TrainingSettings,
    generator: torch.Generator,
    portion: Portion | None = None,
    make_optimizer: MakeOptimizer | None = None,
) -> GatedResult:
    """Train `model` in place on both terms; `recipe.local_epochs` are passes over the retained samples.

    Every retained batch is paired with the next of the forget set, which begins again, shuffled anew, when it is used
    up. Retained batches are those of training without a forget term: the forget set has a generator of its own.
    `make_optimizer` replaces the recipe's gradient descent.
    """
    pairs = _ForgetBatches(len(forget), _forget_batch(len(forget), len(retain), recipe.batch_size), generator)
    gates = _Gates()

    def loss(called: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        retained = terms.retain * task.loss(called, inputs, labels)
        batch = pairs.present
        # After the retained batch: what that does to statistics must not come between this one's ways there and back.
        with modes_kept(model):
            model.eval()
            losses = task.loss(model, task.inputs(forget.inputs[batch]), forget.labels[batch])
        gates.look(terms.share_open(losses), len(batch))
        return retained + terms(losses)

    made = _counting(make_optimizer or partial(descent, settings=recipe), gates, pairs)
    result = train_locally(task, model, retain, recipe, generator, portion, loss, make_optimizer=made)
    return GatedResult(result.mean_loss, gates.share, gates.samples)


def _forget_batch(forgotten: int, retained: int, batch_size: int) -> int:
    """The recipe's batch, or as much as it takes for one pass over the retained samples to see the whole forget set."""
    return max(batch_size, math.ceil(forgotten / math.ceil(retained / batch_size)))


class _Gates:
    """How many gates batches found open; a batch counts when its step is taken, however often it was computed."""

    def __init__(self) -> None:
        self.samples = self._batches = 0
        self._open = 0.0
        self._last = (0.0, 0)

    def look(self, share_open: float, samples: int) -> None:
        self._last = (share_open, samples)

    def advance(self) -> None:
        share_open, samples = self._last
        self._open += share_open
        self._batches += 1
        self.samples += samples

    @property
    def share(self) -> float:
        return self._open / max(1, self._batches)


class _ForgetBatches:
    """Batches of the forget set without an end."""

    def __init__(self, count: int, size: int, generator: torch.Generator) -> None:
        # A copy: the retained batches are drawn as if there were no forget set.
        ahead = torch.Generator()
        ahead.set_state(generator.get_state())
        seed = derive_seed(int(torch.randint(2**62, (), generator=ahead)), "forget-batches")
        self._batches = repeated_batches(count, None, size, torch.Generator().manual_seed(seed))
        self.present = torch.empty(0, dtype=torch.int64)
        self.advance()

    def advance(self) -> None:
        self.present = next(self._batches)


def _counting(make_optimizer: MakeOptimizer, *counted: _Gates | _ForgetBatches) -> MakeOptimizer:
    """The same optimizer; what is counted goes on with each of its steps."""

    def make(leaves: list[Tensor]) -> torch.optim.Optimizer:
        optimizer = make_optimizer(leaves)

        def go_on(*_: object) -> None:
            for one in counted:
                one.advance()

        # Not where the loss is computed: the short way of partly frozen models is tried on the first batch.
        optimizer.register_step_post_hook(go_on)
        return optimizer

    return make
