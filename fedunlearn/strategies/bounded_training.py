"""Training of adapters against two terms: on a client, in several steps, or one gradient of one batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedunlearn.channels.layout import evaluation_mode
from fedunlearn.data.dataset import Samples
from fedunlearn.strategies.bounded_terms import Bounds, forget_term, losses_among, retain_term
from fedunlearn.strategies.passes import losses_and_logits
from fedunlearn.tasks.base import Task
from fedunlearn.tasks.training import TrainingSettings, repeated_batches

WEIGHT_DECAY = 0.05


@dataclass(frozen=True)
class Objective:
    """What is minimised: forget x (forget term) + retain x (retain term), in evaluation mode.

    Attributes:
        output_layer: the module whose input is the feature.
        forget: coefficient of the one term.
        retain: coefficient of the other.
        own: prototypes of the classes to forget, K x D, by this client's own samples.
        shared: prototypes of the retained classes, K x D.
        known: K, whether there is a shared one.
        gone: K, whether the class is to be nobody's answer any more.
    """

    task: Task
    output_layer: str
    bounds: Bounds
    forget: float
    retain: float
    own: Tensor
    shared: Tensor
    known: Tensor
    gone: Tensor

    def __call__(self, model: nn.Module, forget: Samples, retain: Samples) -> Tensor:
        """The objective of two batches, one of which may be empty."""
        both = Samples.concat([forget, retain])
        inputs = self.task.inputs(both.inputs)
        losses, found, logits = forward_parts(self.task, model, self.output_layer, inputs, both.labels)
        split = len(forget)
        total = torch.zeros(())
        if split:
            prototypes = self.own[forget.labels]
            forgotten = losses_among(logits[:split], forget.labels, self.gone)
            total = total + self.forget * forget_term(forgotten, found[:split], prototypes, self.bounds)
        if len(retain):
            labels = retain.labels
            kept = retain_term(losses[split:], found[split:], self.shared[labels], self.known[labels], self.bounds)
            total = total + self.retain * kept
        return total


def forward_parts(
    task: Task, model: nn.Module, output_layer: str, inputs: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The task's losses N, what went into the output layer, N x D, and the logits N x K, all differentiable."""
    caught: list[Tensor] = []

    def catch(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        caught.append(arguments[0].flatten(start_dim=1))

    hook = model.get_submodule(output_layer).register_forward_pre_hook(catch)
    try:
        losses, logits = losses_and_logits(task, model, inputs, labels)
    finally:
        hook.remove()
    return losses, caught[-1], logits


@dataclass(frozen=True)
class BoundedResult:
    """What training tells: mean of what was minimised, steps, and samples as often as they were seen."""

    mean_loss: float
    batches: int
    seen: int


def train_adapters(
    model: nn.Module,
    groups: Sequence[Sequence[Tensor]],
    objective: Objective,
    forget: Samples,
    retain: Samples,
    rate: float,
    recipe: TrainingSettings,
    generator: torch.Generator,
    sparsity: Sequence[float],
) -> BoundedResult:
    """Train groups of the model's parameters with AdamW, in the recipe's passes over the retained samples.

    Without any the passes are over the rest. `sparsity` is the weight of each group's norm in what is minimised.
    Each retained batch is paired with one of the forget set, which begins again, shuffled anew, when it is used up.
    """
    optimizer = adamw([leaf for group in groups for leaf in group], rate)
    total, batches, seen = 0.0, 0, 0
    with evaluation_mode(model):
        for forgotten, retained in _pairs(forget, retain, recipe.local_epochs, recipe.batch_size, generator):
            optimizer.zero_grad()
            value = objective(model, forgotten, retained)
            value.backward()
            optimizer.step()
            shrink_groups(groups, optimizer, sparsity)
            total += float(value.detach())
            batches += 1
            seen += len(forgotten) + len(retained)
    return BoundedResult(total / max(1, batches), batches, seen)


def adamw(leaves: Sequence[Tensor], rate: float) -> torch.optim.AdamW:
    """The optimiser of both modes."""
    return torch.optim.AdamW(leaves, lr=rate, weight_decay=WEIGHT_DECAY)


@torch.no_grad()
def adaptive_weights(groups: Sequence[Sequence[Tensor]], sparsity: float) -> list[float]:
    """The weight of each group's norm: `sparsity` times the mean norm over its own, so that small groups go first.

    Adaptive group lasso (Wang and Leng 2008) with the groups' present norms. A group that is zero, as all are before
    the first round, has the plain weight.
    """
    norms = [_norm(group) for group in groups]
    mean = sum(norms) / len(norms)
    return [sparsity * mean / norm if norm else sparsity for norm in norms]


def _norm(group: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(leaf.double().square().sum()) for leaf in group))


@torch.no_grad()
def shrink_groups(groups: Sequence[Sequence[Tensor]], optimizer: torch.optim.AdamW, sparsity: Sequence[float]) -> None:
    """The proximal step of the group lasso after a step of AdamW: each group times max(0, 1 - threshold / norm).

    AdamW divides gradients by the root of their mean square, and so must the penalty's: a group stays zero when the
    norm of its gradient is below its `sparsity`. One number stands for all of a group; *reconstruction*. A group of
    which no gradient was seen has no such scale, and stays as it is: a target that keeps nothing sees none from the
    bound on.
    """
    options = optimizer.param_groups[0]
    for group, weight in zip(groups, sparsity, strict=True):
        if not weight:
            continue
        states = [optimizer.state[leaf] for leaf in group]
        seen = 1 - options["betas"][1] ** float(states[0]["step"])
        squares = sum(float(state["exp_avg_sq"].double().sum()) for state in states)
        if not squares:
            continue
        typical = math.sqrt(squares / seen / sum(leaf.numel() for leaf in group)) + options["eps"]
        norm = _norm(group)
        threshold = weight * options["lr"] / typical
        for leaf in group:
            leaf.mul_(1 - threshold / norm if norm > threshold else 0.0)


def gradient(
    model: nn.Module, leaves: dict[str, Tensor], objective: Objective, forget: Samples, retain: Samples
) -> tuple[dict[str, Tensor], float]:
    """The gradient of the objective by name, and its value."""
    with evaluation_mode(model):
        value = objective(model, forget, retain)
    found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    zeros = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    return {name: zeros[name] if part is None else part for name, part in zip(leaves, found, strict=True)}, float(
        value.detach()
    )


def _pairs(
    forget: Samples, retain: Samples, passes: int, batch_size: int, generator: torch.Generator
) -> Iterator[tuple[Samples, Samples]]:
    nothing = torch.empty(0, dtype=torch.int64)
    if not len(retain):
        for batch in repeated_batches(len(forget), passes, batch_size, generator):
            yield forget.take(batch), retain
        return
    endless = repeated_batches(len(forget), None, batch_size, generator) if len(forget) else None
    for batch in repeated_batches(len(retain), passes, batch_size, generator):
        yield forget.take(nothing if endless is None else next(endless)), retain.take(batch)
