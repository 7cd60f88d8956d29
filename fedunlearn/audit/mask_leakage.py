"""What the indices of a mask give away: can the class, or who asked, be read off the selected channels?

The target sends which channels carry its data. Somebody who has seen masks with known answers takes the nearest
average of them; each mask is left out in its turn, and chance is what the same attack does with shuffled answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedunlearn.audit import score_attack
from fedunlearn.audit.checks import same_length
from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.subject import Subject
from fedunlearn.channels import gradient_x_activation
from fedunlearn.channels.explained import Explained
from fedunlearn.channels.layout import Layout, evaluation_mode
from fedunlearn.channels.mask import ChannelMask
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import DataError
from fedunlearn.tasks.base import Task

NAME = "mask_leakage"
SHUFFLES = 200
SHARE_EDGES = tuple(step / 500 for step in range(1, 500))


@dataclass(frozen=True)
class Inference:
    """How well the answers are read off the masks.

    Attributes:
        accuracy: share of masks whose answer is found, 0 to 1.
        chance: mean of that share with shuffled answers.
        p_value: share of the shuffles, this one included, that do as well or better.
        masks: how many there were.
    """

    accuracy: float
    chance: float
    p_value: float
    masks: int


def as_rows(masks: Sequence[ChannelMask], layout: Layout) -> Tensor:
    """Masks as vectors of 0 and 1 over all channels of the layout, each layer weighing the same: M x channels."""
    parts = []
    for group in layout.groups:
        rows = torch.zeros(len(masks), group.channels, dtype=torch.float64)
        for row, mask in zip(rows, masks, strict=True):
            row[mask.selected.get(group.layer, torch.zeros(0, dtype=torch.int64))] = 1.0
        parts.append(rows / group.channels**0.5)
    return torch.cat(parts, dim=1)


def infer(
    masks: Sequence[ChannelMask],
    answers: Sequence[int],
    layout: Layout,
    generator: torch.Generator,
    shuffles: int = SHUFFLES,
) -> Inference:
    """Guess each mask's answer (a class, a client, in or out) from all the others.

    Args:
        answers: what is to be inferred of each mask; two kinds at least, one of them twice or more.
        generator: shuffles the answers.

    Raises:
        DataError: too few masks, or only one kind of answer.
    """
    rows, labels = as_rows(masks, layout), torch.tensor(list(answers))
    count = same_length(masks=rows, answers=labels)
    if len(set(answers)) < 2 or len(set(answers)) == count:
        raise DataError(
            f"inferring from masks needs two kinds of answers and one of them twice; got {count} masks with "
            f"{len(set(answers))}."
        )
    found = _accuracy(rows, labels)
    shuffled = [_accuracy(rows, labels[torch.randperm(count, generator=generator)]) for _ in range(shuffles)]
    as_good = sum(one >= found - 1e-12 for one in shuffled)
    chance = sum(shuffled) / shuffles if shuffles else 1.0 / len(set(answers))
    return Inference(found, chance, (1 + as_good) / (1 + shuffles), count)


def _accuracy(rows: Tensor, labels: Tensor) -> float:
    """Leave-one-out accuracy of the nearest mean; of equally near ones each counts its share."""
    kinds, positions = labels.unique(return_inverse=True)
    one_hot = torch.nn.functional.one_hot(positions, len(kinds)).to(rows.dtype)
    sums, numbers = one_hot.T @ rows, one_hot.sum(dim=0)
    distances = torch.cdist(rows, sums / numbers[:, None])
    own_others = numbers[positions] - 1
    means_without = (sums[positions] - rows) / own_others.clamp_min(1)[:, None]
    own = (means_without - rows).norm(dim=1)
    # A kind that only the mask itself is of cannot be guessed.
    own[own_others == 0] = torch.inf
    distances[torch.arange(len(rows)), positions] = own
    nearest = distances <= distances.min(dim=1, keepdim=True).values + 1e-9
    hit = nearest[torch.arange(len(rows)), positions].to(rows.dtype)
    return float((hit / nearest.sum(dim=1)).mean())


def membership_scores(
    task: Task, model: nn.Module, samples: Samples, mask: ChannelMask, layout: Layout, batch_size: int = 128
) -> Tensor:
    """For each sample, the share of its own attribution that lies in the selected channels, 0 to 1, (N,), float64.

    Forgotten samples score higher than unseen ones if the mask says who was in the forget set. Mean over the layers
    of which something is selected; 0 for a mask that selects nothing.

    Args:
        model: the one that the mask was made with, which the attacker holds.
    """
    layers = [layer for layer, channels in mask.selected.items() if channels.numel()]
    if not layers or not len(samples):
        return torch.zeros(len(samples), dtype=torch.float64)
    scores = []
    with ExitStack() as stack:
        stack.enter_context(evaluation_mode(model))
        first = task.inputs(samples.inputs[:1])
        explained = stack.enter_context(Explained(model, task.loss, layout, first, samples.labels[:1]))
        for start in range(0, len(samples), batch_size):
            part = slice(start, start + batch_size)
            of_each = gradient_x_activation.of_each_sample(
                explained, task.inputs(samples.inputs[part]), samples.labels[part]
            )
            shares = [
                of_each[layer][:, mask.selected[layer]].sum(dim=1) / of_each[layer].sum(dim=1).clamp_min(1e-300)
                for layer in layers
            ]
            scores.append(torch.stack(shares).mean(dim=0))
    return torch.cat(scores)


def measure(subject: Subject, generator: torch.Generator) -> Finding:
    """Histograms of the shares: of the forget set and own unseen samples, or of unseen samples a class."""
    before = subject.before
    if before is None:
        raise DataError("what a mask gives away is measured on the model before unlearning; send it along.")
    mask = moved_channels(before, subject.model, subject.layout)
    network = subject.network(before)

    def score(samples: Samples) -> Tensor:
        return membership_scores(subject.task, network, samples, mask, subject.layout)

    return score_attack.measure(subject, score, SHARE_EDGES, generator)


def combine(gathered: Gathered) -> Mapping[str, Value]:
    """AUC of the share, and what belongs to it."""
    return score_attack.combine(NAME, gathered, len(SHARE_EDGES) + 1)


def moved_channels(before: Mapping[str, Tensor], after: Mapping[str, Tensor], layout: Layout) -> ChannelMask:
    """The mask that two models give away: channels of which a parameter differs."""
    selected = {}
    for group in layout.groups:
        moved = torch.zeros(group.channels, dtype=torch.bool)
        for name in group.parameters:
            if len(before[name]) == group.channels:
                moved |= (before[name] != after[name]).reshape(group.channels, -1).any(dim=1)
        selected[group.layer] = moved.nonzero().flatten()
    return ChannelMask(selected)
