from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from fedunlearn.data.dataset import Samples
from fedunlearn.strategies.nearest_label import nearest_wrong_labels
from fedunlearn.tasks.classification import ClassificationTask

TASK = ClassificationTask("tiny", "digits")


def test_labels_by_hand() -> None:
    """A linear model of two inputs: the step goes against the recorded class along both axes."""
    model = nn.Linear(2, 3, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[4.0, 0.0], [0.0, 2.0], [-1.0, 0.5]]))
    # Of a sample of class 0 at (0.5, 0.05) the second input rises by 0.5: class 1 then has 1.1, class 2 less.
    # At (0.5, -0.9) it rises to -0.4: class 1 has -0.8, class 2 -0.2 at the first input 0.0.
    inputs = torch.tensor([[0.5, 0.05], [0.5, -0.9], [-1.0, 1.0]])
    labels = torch.tensor([0, 0, 1])
    found = nearest_wrong_labels(TASK, model, Samples(inputs, labels), 0.5)
    expected = []
    for one, label in zip(inputs, labels, strict=True):
        given = one.clone().requires_grad_()
        functional.cross_entropy(model(given)[None], label[None]).backward()
        moved = (one + 0.5 * given.grad.sign()).clamp(float(inputs.min()), float(inputs.max()))
        order = model(moved).argsort(descending=True).tolist()
        expected.append(next(c for c in order if c != int(label)))
    assert found.tolist() == expected == [1, 2, 2]


@pytest.mark.parametrize("bound", [0.01, 0.1, 3.0])
def test_labels_are_wrong_ones(bound: float) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(300, 4, generator=generator), torch.randint(0, 3, (300,), generator=generator)
    model = nn.Linear(4, 3, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.randn(3, 4, generator=generator))
    found = nearest_wrong_labels(TASK, model, Samples(inputs, labels), bound)
    assert (found != labels).all() and len(found.unique()) == 3
