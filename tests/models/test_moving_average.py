from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call

from fedunlearn.channels.layout import channel_layout
from fedunlearn.models.moving_average import MovingAverage


class Averaged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        self.average = MovingAverage(self.inner, "inner.", decay=0.75)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = functional_call(self.inner, self.average.parameters_of(self.inner), (inputs,))
        return result


def test_it_follows_as_the_formula_says() -> None:
    model = Averaged()
    start = model.inner[0].weight.detach().clone()
    with torch.no_grad():
        model.inner[0].weight.fill_(1.0)
    model.average.follow(model.inner)
    model.average.follow(model.inner)
    expected = 0.75**2 * start + (1 - 0.75**2)
    assert torch.allclose(model.average.parameters_of(model.inner)["0.weight"], expected)


def test_it_is_in_the_state_and_no_parameter() -> None:
    model = Averaged()
    assert "average.0-weight" in model.state_dict()
    assert {name for name, _ in model.named_parameters()} == {f"inner.{n}" for n, _ in model.inner.named_parameters()}


def test_the_average_of_a_channel_belongs_to_the_channel() -> None:
    layout = channel_layout(Averaged(), torch.rand(2, 3))
    (group,) = layout.groups
    assert group.parameters == ("inner.0.weight", "inner.0.bias")
    assert group.buffers == ("average.0-weight", "average.0-bias")
    assert layout.output == ("inner.2.weight", "inner.2.bias", "average.2-weight", "average.2-bias")
