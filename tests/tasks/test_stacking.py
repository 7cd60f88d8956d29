from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from fedunlearn.data.dataset import Samples
from fedunlearn.tasks.classification import ClassificationTask
from fedunlearn.tasks.stacking import LossOfModel, first_line, not_stackable

TASK = ClassificationTask("pictures", "digits")
SAMPLES = Samples(torch.zeros(4, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1, 2, 0]))


def network(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), *layers, nn.Flatten(), nn.Linear(16, 3))


class Branching(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs if float(inputs.sum()) > 0 else -inputs


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.tensor(0))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        return inputs


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (nn.GroupNorm(2, 4), "None"),
        (nn.Dropout(), "cannot be stacked"),
        (Branching(), "cannot be stacked"),
        (Counting(), "changes its buffer '1.seen' in training"),
    ],
)
def test_what_draws_branches_or_remembers_is_not_stacked(layer: nn.Module, why: str) -> None:
    model = network(layer).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert re.search(why, str(not_stackable(TASK, model, SAMPLES)))
    assert not model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_loss_of_a_model_is_that_of_its_task() -> None:
    model = network(nn.ReLU())
    expected = TASK.loss(model, TASK.inputs(SAMPLES.inputs), SAMPLES.labels)
    assert torch.equal(LossOfModel(TASK, model)(SAMPLES.inputs, SAMPLES.labels), expected)


def test_of_an_error_one_line_is_told() -> None:
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(KeyError()) == "KeyError"
    assert len(first_line(ValueError("x" * 999))) == 200
