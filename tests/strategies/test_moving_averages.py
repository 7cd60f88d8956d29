from __future__ import annotations

import torch
from torch import nn

from fedunlearn.models.moving_average import MovingAverage
from fedunlearn.strategies.moving_averages import averages_follow


def test_averages_move_by_as_much_as_their_parameters_whatever_they_do_inside() -> None:
    model = nn.Module()
    model.inner = nn.Linear(2, 2)
    model.average = MovingAverage(model.inner, "inner.", 0.9)
    weight, average = model.inner.weight, model.average.get_buffer("weight")
    with torch.no_grad():
        average.fill_(5.0)
    bias = model.average.get_buffer("bias").clone()
    with averages_follow(model), torch.no_grad():
        weight.add_(0.25)
        model.average.follow(model.inner)
    assert torch.allclose(average, torch.full((2, 2), 5.25))
    assert torch.equal(model.average.get_buffer("bias"), bias), "what did not move keeps every bit"
