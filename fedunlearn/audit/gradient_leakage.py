"""Gradient leakage: how much of a tiny batch can be rebuilt from the update that it led to?

Whoever sees a client's packed update after one step knows the gradient in the channels that moved. After Geiping et
al. 2020 ("Inverting Gradients"): inputs are sought whose gradient points the same way. Batch size, steps and the start
are *reconstruction*; so is attacking the packed rows alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedunlearn.audit.counts import total_of
from fedunlearn.audit.inversion import total_variation
from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.subject import ModelState, Subject
from fedunlearn.channels.layout import evaluation_mode
from fedunlearn.channels.packing import Portion
from fedunlearn.tasks.base import Task

NAME = "gradient_leakage"
HIGHEST = 60.0
"""Ratio in decibels from which two inputs count as the same."""


@dataclass(frozen=True)
class MatchingSettings:
    """How hard the attacker tries.

    Attributes:
        steps: gradient steps.
        learning_rate: of Adam on the sign of the gradient, in units of the input's range.
        smoothing: weight of the total variation, where the input is an image.
        low: smallest value an input can have.
        high: largest value.
    """

    steps: int = 150
    learning_rate: float = 0.07
    smoothing: float = 0.01
    low: float = 0.0
    high: float = 1.0


def gradients_of(task: Task, model: nn.Module, inputs: Tensor, labels: Tensor, portion: Portion | None) -> list[Tensor]:
    """Gradients of the batch's mean loss in the rows that move, differentiable in `inputs`.

    Args:
        portion: None: everything moves.
    """
    names = [name for name, _ in model.named_parameters() if portion is None or name in portion.rows]
    leaves = dict(model.named_parameters())
    found = torch.autograd.grad(
        task.loss(model, inputs, labels).mean(), [leaves[name] for name in names], create_graph=True
    )
    if portion is None:
        return list(found)
    return [_rows(gradient, portion.rows[name]) for name, gradient in zip(names, found, strict=True)]


def gradients_of_update(
    model: nn.Module, after: ModelState, learning_rate: float, portion: Portion | None
) -> list[Tensor]:
    """The gradients that one step of plain gradient descent came from: what crosses says no less than they do.

    Args:
        model: as it was sent down.
        after: what came back.
        portion: the rows that moved; None: everything.
    """
    found = []
    for name, before in model.named_parameters():
        if portion is None or name in portion.rows:
            gradient = (before.detach() - after[name]) / learning_rate
            found.append(_rows(gradient, None if portion is None else portion.rows[name]))
    return found


def rebuild(
    task: Task,
    model: nn.Module,
    seen: list[Tensor],
    labels: Tensor,
    shape: tuple[int, ...],
    portion: Portion | None,
    generator: torch.Generator,
    settings: MatchingSettings | None = None,
) -> Tensor:
    """Inputs whose gradients point where `seen` does: N x `shape`, as the model is fed them; it is left alone.

    Args:
        model: the model that was sent down.
        seen: what `gradients_of_update` gave.
        labels: of the batch, (N,): read off the output layer's bias (`likely_labels`), or known.
        portion: the rows that moved; None: everything.
    """
    chosen = settings or MatchingSettings()
    extent = chosen.high - chosen.low
    start = chosen.low + extent * torch.rand(len(labels), *shape, generator=generator)
    inputs = start.requires_grad_()
    optimizer = torch.optim.Adam([inputs], lr=chosen.learning_rate * extent)
    # Steps shrink twice, as in the paper, so that what is found early is not shaken off late.
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [chosen.steps // 2, 3 * chosen.steps // 4], gamma=0.3)
    wanted = [gradient.detach() for gradient in seen]
    with evaluation_mode(model):
        for _ in range(chosen.steps):
            found = gradients_of(task, model, inputs, labels, portion)
            loss = 1.0 - _cosine(found, wanted) + chosen.smoothing * total_variation(inputs) / extent
            [slope] = torch.autograd.grad(loss, [inputs])
            inputs.grad = slope.sign()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                inputs.clamp_(chosen.low, chosen.high)
    return inputs.detach()


def likely_labels(bias_gradient: Tensor, count: int) -> Tensor:
    """The labels of a batch, as far as the gradient of the output layer's bias tells, sorted, (count,).

    A class that occurs pulls its bias up by a share of the batch (Zhao et al. 2020, "iDLG", for one sample); the
    most negative gradients are taken in turn, each of them losing one sample's share.
    """
    left, found = bias_gradient.detach().double().clone(), []
    for _ in range(count):
        lowest = int(left.argmin())
        found.append(lowest)
        left[lowest] += 1.0 / count
    return torch.tensor(sorted(found))


def peak_signal_to_noise(one: Tensor, other: Tensor, extent: float = 1.0) -> float:
    """10 log10(extent^2 / mean squared difference) in decibels, at most 60."""
    error = float((one.double() - other.double()).square().mean())
    return min(HIGHEST, 10.0 * math.log10(extent**2 / error)) if error > 0 else HIGHEST


def moved_rows(before: ModelState, after: ModelState) -> Portion:
    """The rows in which two models differ: what a packed update of the unlearning showed. All where none differs."""
    rows: dict[str, Tensor | None] = {}
    for name, tensor in before.items():
        if not tensor.dim():
            continue
        moved = (tensor != after[name]).reshape(len(tensor), -1).any(dim=1)
        if bool(moved.any()):
            rows[name] = None if bool(moved.all()) else moved.nonzero().flatten()
    return Portion(rows) if rows else Portion.everything(before)


def measure(subject: Subject, generator: torch.Generator) -> Finding:
    """One sample that is kept here, one step of training with it, and what the packed update lets one rebuild."""
    if not len(subject.retained) or not len(subject.held_out):
        return {}
    portion = None if subject.before is None else moved_rows(subject.before, subject.model)
    network = subject.network(subject.model)
    sample = subject.retained.take(torch.randperm(len(subject.retained), generator=generator)[:1])
    truth, unseen = subject.task.inputs(sample.inputs), subject.task.inputs(subject.held_out.inputs)
    low, high = (float(one) for one in torch.aminmax(unseen))
    after = one_step(subject.task, network, truth, sample.labels, subject.training.learning_rate)
    seen = gradients_of_update(network, after, subject.training.learning_rate, portion)
    labels = labels_seen(network, after, subject.layout.output, 1)
    settings = MatchingSettings(low=low, high=high)
    shape = tuple(truth.shape[1:])
    made = rebuild(
        subject.task, network, seen, sample.labels if labels is None else labels, shape, portion, generator, settings
    )
    extent = high - low
    return {
        "samples": 1,
        "rebuilt": peak_signal_to_noise(made, truth, extent),
        "mean": peak_signal_to_noise(unseen.mean(dim=0, keepdim=True), truth, extent),
    }


def one_step(task: Task, model: nn.Module, inputs: Tensor, labels: Tensor, learning_rate: float) -> dict[str, Tensor]:
    """The parameters after one step of plain gradient descent on a batch; the model is left as it was."""
    with evaluation_mode(model):
        found = torch.autograd.grad(task.loss(model, inputs, labels).mean(), list(model.parameters()))
    names = [name for name, _ in model.named_parameters()]
    parameters = dict(model.named_parameters())
    return {n: parameters[n].detach() - learning_rate * slope for n, slope in zip(names, found, strict=True)}


def labels_seen(model: nn.Module, after: ModelState, output: Sequence[str], count: int) -> Tensor | None:
    """The labels that the output layer's bias gives away; None where it has no bias."""
    for name, before in model.named_parameters():
        if name in output and before.dim() == 1:
            return likely_labels(before.detach() - after[name], count)
    return None


def combine(gathered: Gathered) -> Mapping[str, Value]:
    """Decibels by which the rebuilt sample is nearer to the true one than the mean of unseen samples is."""
    findings = [finding for finding in gathered.remaining.values() if finding]
    names = (NAME, f"{NAME}.rebuilt", f"{NAME}.mean_input")
    if not findings:
        return dict.fromkeys(names, Value.refusal(f"{NAME} needs a client with retained and with held-out samples."))
    rebuilt, mean = (total_of(findings, name) / len(findings) for name in ("rebuilt", "mean"))
    return dict(zip(names, (Value(rebuilt - mean), Value(rebuilt), Value(mean)), strict=True))


def _rows(values: Tensor, rows: Tensor | None) -> Tensor:
    return values if rows is None else values[rows]


def _cosine(one: list[Tensor], other: list[Tensor]) -> Tensor:
    product = torch.stack([(a * b).sum() for a, b in zip(one, other, strict=True)]).sum()
    lengths = [torch.stack([a.square().sum() for a in each]).sum().sqrt() for each in (one, other)]
    return product / (lengths[0] * lengths[1]).clamp_min(1e-12)
