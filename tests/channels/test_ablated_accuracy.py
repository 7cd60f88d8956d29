from __future__ import annotations

import torch
from torch import nn

from fedunlearn.channels.ablated_accuracy import accuracy_drops
from fedunlearn.channels.layout import channel_layout


def test_drops_by_hand() -> None:
    """Two hidden units, each of which alone speaks for one class."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
        model[2].weight.copy_(torch.eye(2))
        model[2].bias.copy_(torch.tensor([0.0, 0.1]))
    inputs = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [0.0, 1.0]])
    labels = torch.tensor([0, 0, 0, 1])
    layout = channel_layout(model, inputs)
    drops = accuracy_drops(model, lambda network, batch: network(batch), inputs, labels, layout)
    # Without the first unit everything is answered with class 1; without the second the bias answers all the same.
    assert drops["0"].tolist() == [0.75, 0.0]


def test_it_agrees_with_zeroing_the_parameters() -> None:
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 3)
    ).train()
    with torch.no_grad():  # answers that depend on the input
        model[6].bias.zero_()
        model[4].weight *= 5
    inputs = torch.randn(60, 1, 4, 4)
    labels = torch.randint(0, 3, (60,))
    layout = channel_layout(model, inputs[:2])
    drops = accuracy_drops(model, lambda network, batch: network(batch), inputs, labels, layout)
    assert model.training and any(one.any() for one in drops.values())
    model.eval()
    with torch.no_grad():
        whole = (model(inputs).argmax(dim=1) == labels).double().mean()
        for channel in range(3):
            kept = model[1].weight[channel].clone(), model[1].bias[channel].clone()
            model[1].weight[channel], model[1].bias[channel] = 0.0, 0.0
            without = (model(inputs).argmax(dim=1) == labels).double().mean()
            model[1].weight[channel], model[1].bias[channel] = kept
            torch.testing.assert_close(drops["0"][channel], whole - without)
