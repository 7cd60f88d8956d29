"""Forget steps: bounded work of the target on its own forget set, in the channels that were selected.

All are *reconstruction*; the paper on selective channels states none of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedunlearn.data.dataset import Samples
from fedunlearn.strategies.aggregation import average
from fedunlearn.strategies.method import Down, Phase, Reply, State, Work
from fedunlearn.strategies.recovery import local_recipe
from fedunlearn.tasks.base import loss_of_guessing, with_classes
from fedunlearn.tasks.training import evaluate, train_locally

FEWEST = 8
"""Below this number of unseen samples of a class, those of all classes stand for it."""
HIGHEST = 4.0
"""Bound of every goal, in nats: what is beyond it is forgotten well enough."""

ByPosition = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""`(model, inputs, positions) -> losses`; positions are indices into the forget set."""


def towards_unseen(work: Work) -> Reply:
    """Raise each loss to what unseen data shows at the same rank within the recorded class, and no further.

    Unseen are the samples that this client has held out of all training, so that nobody else is asked. The gate
    is that of nabla-tau, a squared hinge below a goal; the goal by rank is ours.
    """
    forget, labels = work.forget, work.forget.labels
    unseen = evaluate(work.task, work.model, work.held_out)
    present = evaluate(work.task, work.model, forget)
    wanted = goals(present.losses, labels, unseen.losses, work.held_out.labels)

    def below_goal(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        losses = work.task.loss(model, inputs, labels[positions])
        return functional.relu(wanted[positions] - losses).square()

    return _train(work, below_goal)


def goals(losses: Tensor, labels: Tensor, unseen: Tensor, unseen_labels: Tensor) -> Tensor:
    """The loss that each forgotten sample should have, (N,), at most `HIGHEST`.

    Args:
        losses: present loss of each forgotten sample, (N,).
        labels: their recorded classes, (N,).
        unseen: losses of samples that were never trained on, (M,). None at all: nothing is raised.
        unseen_labels: their classes, (M,).
    """
    wanted = torch.zeros_like(losses)
    if not len(unseen):
        return wanted
    every = unseen.sort().values
    for label in labels.unique():
        members = (labels == label).nonzero().squeeze(1)
        ranks = losses[members].argsort().argsort().to(torch.float64)
        own = unseen[unseen_labels == label].sort().values
        known = own if len(own) >= FEWEST else every
        positions = ((ranks + 0.5) / len(members) * len(known)).long().clamp_max(len(known) - 1)
        wanted[members] = known[positions]
    return wanted.clamp_max(HIGHEST)


def ascend(work: Work) -> Reply:
    """Raise the loss of the forget set to that of guessing (log K), and no further."""
    bound = loss_of_guessing(work.task, work.classes)
    labels = work.forget.labels

    def below_bound(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        return functional.relu(bound - work.task.loss(model, inputs, labels[positions]))

    return _train(work, below_bound)


def relabel(work: Work) -> Reply:
    """Train the forget set towards the original model's answer with the recorded class masked out."""
    with torch.no_grad():
        answers = evaluate(work.task, work.model, work.forget).logits
    masked = answers.scatter(1, work.forget.labels[:, None], -math.inf)
    wanted = masked.softmax(dim=1)

    def divergence(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        return functional.cross_entropy(
            with_classes(work.task).predict(model, inputs), wanted[positions], reduction="none"
        )

    return _train(work, divergence)


def forget_phase(compute: Callable[[Work], Reply]) -> Phase:
    """The target's phase: it gets the moving part of the model and answers with its own version of it.

    Without a mask there is none: raising losses through all parameters costs more accuracy than it forgets.
    """
    return Phase("train.forget", "target", _send_if_masked, compute, average)


def _send_if_masked(state: State) -> Down | None:
    return None if state.mask is None else Down(packed=state.packed())


def _train(work: Work, loss: ByPosition) -> Reply:
    # The positions travel in the place of the labels, so that a loss can have a goal for each sample.
    samples = Samples(work.forget.inputs, torch.arange(len(work.forget)))
    recipe = replace(local_recipe(work.training, work.settings), learning_rate=work.training.learning_rate)
    recipe = replace(recipe, batch_size=2 * recipe.batch_size)
    result = train_locally(work.task, work.model, samples, recipe, work.generator, portion=work.portion, loss=loss)
    return work.updated(len(samples), loss=result.mean_loss, epochs=recipe.local_epochs)
