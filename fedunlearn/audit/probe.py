"""Linear probe: is a forgotten class still laid out in the features, only cut off from the answer?

A fresh output layer is trained on the frozen backbone. Compare with the retrained model's own probe: features
learned without a class separate it to some degree, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedunlearn.audit import accuracy
from fedunlearn.audit.accuracy import Accuracy
from fedunlearn.channels.layout import evaluation_mode
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import DataError
from fedunlearn.tasks.base import Task, with_classes
from fedunlearn.tasks.training import evaluate


def linear_probe(
    task: Task,
    model: nn.Module,
    output_layer: str,
    train: Samples,
    test: Samples,
    epochs: int,
    generator: torch.Generator,
    classes: int | None = None,
    learning_rate: float = 0.1,
    batch_size: int = 64,
) -> Accuracy:
    """Test accuracy of a new linear output layer on the frozen features of `model`, which is left as it was.

    Features are standardised with the training samples' mean and deviation; the new layer starts from zero.

    Args:
        output_layer: name of the module whose input is the feature (`Layout.output_layer`).
        train: what the new layer is trained on.
        test: what it is measured on.
        epochs: passes over `train`, 1 or more.
        generator: shuffles the batches; equal generators give equal results.
        classes: K; None: as many as `train` and `test` show.

    Raises:
        DataError: there is nothing to train on.
    """
    if not len(train):
        raise DataError("a linear probe needs training samples; got none.")
    seen = torch.cat([train.labels, test.labels])
    classes = classes or int(seen.max()) + 1
    inputs = features(task, model, output_layer, train.inputs)
    mean, deviation = inputs.mean(dim=0), inputs.std(dim=0, correction=0).clamp_min(1e-6)
    inputs = (inputs - mean) / deviation
    layer = _fit(inputs, train.labels, classes, epochs, generator, learning_rate, batch_size)
    answers = (features(task, model, output_layer, test.inputs) - mean) / deviation
    with torch.no_grad():
        predictions = functional.linear(answers, *layer).argmax(dim=1)
    return accuracy.combine(accuracy.count(predictions, test.labels, classes))


@dataclass(frozen=True)
class Erasure:
    """What a new output layer finds of forgotten classes; mean test accuracies over them, 0 to 1.

    Attributes:
        own: with the model's own output layer.
        probed: with the new one. Where it is the higher one, the class was still there and only the head was fooled.
    """

    own: float
    probed: float


def erasure_probe(
    task: Task,
    model: nn.Module,
    output_layer: str,
    train: Samples,
    test: Samples,
    forgotten: Sequence[int],
    generator: torch.Generator,
    share: float = 0.1,
    epochs: int = 20,
) -> Erasure:
    """The erasure probe of GS-LoRA's authors: the head is trained anew on a share of all data, the rest is frozen.

    Args:
        train: forgotten and retained samples. test: what both heads are measured on.
        share: of `train` that is used, above 0 to 1; the authors' tenth.

    Raises:
        DataError: there is nothing to train on, or no test sample of a forgotten class.
    """
    classes = int(torch.cat([train.labels, test.labels]).max()) + 1
    some = train.some(math.ceil(share * len(train)), generator)
    new = linear_probe(task, model, output_layer, some, test, epochs, generator, classes)
    answers = evaluate(task, model, test).predictions
    own = accuracy.combine(accuracy.count(answers, test.labels, classes)).over(forgotten)
    probed = new.over(forgotten)
    if own is None or probed is None:
        raise DataError("an erasure probe needs test samples of the forgotten classes; got none.")
    return Erasure(own, probed)


def features(task: Task, model: nn.Module, output_layer: str, raw: Tensor, batch_size: int = 512) -> Tensor:
    """What goes into `output_layer` for the task's raw inputs, flattened: N x D, float32, no gradients."""
    caught: list[Tensor] = []

    def catch(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        caught.append(arguments[0].detach().flatten(start_dim=1).float())

    hook = model.get_submodule(output_layer).register_forward_pre_hook(catch)
    try:
        with evaluation_mode(model), torch.no_grad():
            for batch in raw.split(batch_size):
                with_classes(task).predict(model, task.inputs(batch))
    finally:
        hook.remove()
    return torch.cat(caught) if caught else torch.empty(0, 0)


def _fit(
    inputs: Tensor,
    labels: Tensor,
    classes: int,
    epochs: int,
    generator: torch.Generator,
    learning_rate: float,
    batch_size: int,
) -> tuple[Tensor, Tensor]:
    weight = torch.zeros(classes, inputs.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.SGD([weight, bias], lr=learning_rate, momentum=0.9)
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs), generator=generator).split(batch_size):
            optimizer.zero_grad()
            functional.cross_entropy(functional.linear(inputs[batch], weight, bias), labels[batch]).backward()
            optimizer.step()
    return weight.detach(), bias.detach()
