"""Model inversion: can the forgotten class be painted out of the model? (Fredrikson et al. 2015)

Inputs are changed by gradient ascent until the model takes them for the class. What comes out is judged by its
likeness to the class as its owner knows it, or by a model that had no part in it. The optimiser, the smoothing and
the likeness are *reconstruction*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedunlearn.audit.counts import MINIMUM_SAMPLES, total_of
from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.subject import Subject
from fedunlearn.channels.layout import evaluation_mode
from fedunlearn.channels.packing import digest_state
from fedunlearn.data.dataset import Samples
from fedunlearn.data.planting import ORDINARY
from fedunlearn.tasks.base import Task, with_classes

NAME = "inversion"
MOST_CLASSES = 3
"""Of the classes in a forget set the most frequent ones are tried."""


@dataclass(frozen=True)
class InversionSettings:
    """How hard the attacker tries.

    Attributes:
        images: how many inputs are made; they start from different noise and are averaged.
        steps: gradient steps.
        learning_rate: of Adam, in units of the input's range.
        smoothing: weight of the total variation, where the input is an image.
        low: smallest value an input can have.
        high: largest value.
    """

    images: int = 16
    steps: int = 60
    learning_rate: float = 0.05
    smoothing: float = 0.5
    low: float = 0.0
    high: float = 1.0


def invert(
    task: Task,
    model: nn.Module,
    wanted: int,
    shape: tuple[int, ...],
    generator: torch.Generator,
    settings: InversionSettings | None = None,
) -> Tensor:
    """Inputs that `model` takes for class `wanted`: images x `shape`, as the model is fed them; it is left alone.

    Args:
        shape: of one input.
        generator: draws the noise they start from.
    """
    chosen = settings or InversionSettings()
    extent = chosen.high - chosen.low
    start = torch.rand(chosen.images, *shape, generator=generator)
    inputs = (chosen.low + extent * (0.25 + 0.5 * start)).requires_grad_()
    labels = torch.full((chosen.images,), wanted)
    optimizer = torch.optim.Adam([inputs], lr=chosen.learning_rate * extent)
    with evaluation_mode(model):
        for _ in range(chosen.steps):
            loss = functional.cross_entropy(with_classes(task).predict(model, inputs), labels)
            loss = loss + chosen.smoothing * total_variation(inputs) / extent
            [inputs.grad] = torch.autograd.grad(loss, [inputs])
            optimizer.step()
            with torch.no_grad():
                inputs.clamp_(chosen.low, chosen.high)
    return inputs.detach()


def total_variation(inputs: Tensor) -> Tensor:
    """Mean absolute difference of neighbours in the last two dimensions; 0 for inputs that are no images."""
    if inputs.dim() < 4:
        return inputs.new_zeros(())
    rows = (inputs[..., 1:, :] - inputs[..., :-1, :]).abs().mean()
    return rows + (inputs[..., :, 1:] - inputs[..., :, :-1]).abs().mean()


def likeness(made: Tensor, of_class: Tensor, of_others: Tensor) -> float:
    """Correlation of the made inputs with what sets the class apart, -1 to 1; 0 means that nothing was learned.

    What sets it apart is its mean input less the mean of the others: what all classes share (a dark border, say)
    would be found without any model.

    Args:
        made: M x ..., what `invert` gave.
        of_class: N x ..., samples of the class, as the model is fed them.
        of_others: samples of other classes.
    """
    apart = (of_class.double().mean(dim=0) - of_others.double().mean(dim=0)).flatten()
    found = (made.double().mean(dim=0) - of_others.double().mean(dim=0)).flatten()
    # Centred, so that an input that is merely brighter all over is like nothing.
    apart, found = apart - apart.mean(), found - found.mean()
    length = float(apart.norm() * found.norm())
    return float(apart @ found) / length if length > 0 else 0.0


def recognised(task: Task, judge: nn.Module, made: Tensor, wanted: int) -> float:
    """Mean probability that another model gives the class to the made inputs, 0 to 1.

    Args:
        judge: a model that knows the class and did not make the inputs: one judges its own work too well.
    """
    with evaluation_mode(judge), torch.no_grad():
        return float(with_classes(task).predict(judge, made).softmax(dim=1)[:, wanted].mean())


def measure(subject: Subject, generator: torch.Generator) -> Finding:
    """Paint each of the forget set's most frequent classes out of the model, and compare with the class itself."""
    ordinary = subject.forget.take(torch.tensor(subject.parts == ORDINARY).nonzero().flatten())
    counts = torch.bincount(ordinary.labels, minlength=subject.classes)
    everything = Samples.concat([ordinary, subject.retained, subject.held_out])
    network = subject.network(subject.model)
    # A model that made the inputs is no judge of them.
    unchanged = subject.before is None or digest_state(subject.before) == digest_state(subject.model)
    judge = None if unchanged or subject.before is None else subject.network(subject.before)
    found = {"classes": 0, "likeness": 0.0, "recognised": 0.0, "judged": 0}
    for label in counts.argsort(descending=True, stable=True)[:MOST_CLASSES].tolist():
        others = everything.take((everything.labels != label).nonzero().flatten())
        if counts[label] < MINIMUM_SAMPLES or len(others) < MINIMUM_SAMPLES:
            continue
        of_class = subject.task.inputs(ordinary.inputs[ordinary.labels == label])
        of_others = subject.task.inputs(others.inputs)
        low, high = (float(one) for one in torch.aminmax(of_others))
        settings = InversionSettings(low=low, high=high)
        made = invert(subject.task, network, label, tuple(of_class.shape[1:]), generator, settings)
        found["classes"] += 1
        found["likeness"] += likeness(made, of_class, of_others)
        if judge is not None:
            found["recognised"] += recognised(subject.task, judge, made, label)
            found["judged"] += 1
    return found if found["classes"] else {}


def combine(gathered: Gathered) -> Mapping[str, Value]:
    """Mean likeness over targets and classes, and the mean probability that the model before gives the class."""
    findings = [finding for finding in gathered.target.values() if finding]
    classes, judged = total_of(findings, "classes"), total_of(findings, "judged")
    alike, known = total_of(findings, "likeness"), total_of(findings, "recognised")
    few = Value.refusal(
        f"{NAME} needs {MINIMUM_SAMPLES} forgotten samples of a class, and as many of others, at a target."
    )
    own = Value.refusal("the model before cannot judge what was painted out of itself.")
    return {
        NAME: Value(alike / classes) if classes else few,
        f"{NAME}.recognised": (Value(known / judged) if judged else own) if classes else few,
    }
