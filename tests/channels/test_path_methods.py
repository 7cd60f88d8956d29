from __future__ import annotations

import pytest
import torch
from torch import nn

from fedunlearn.channels import path_methods
from fedunlearn.channels.attribution import NotSupported, attribute
from fedunlearn.channels.layout import channel_layout
from fedunlearn.channels.path_methods import Conductance, IntegratedGradients


@pytest.mark.parametrize("method", [Conductance(steps=200), IntegratedGradients(steps=200)])
def test_a_bottleneck_of_one_channel_explains_the_whole_change(method, loss) -> None:
    """Both methods are complete: what passes through a single channel is all of the change of the output."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 1), nn.Tanh(), nn.Linear(1, 4))
    inputs, labels = torch.rand(7, 3), torch.randint(0, 4, (7,))
    layout = channel_layout(model, inputs)
    (score,) = attribute(model, loss, [(inputs, labels)], layout, method)["0"].tolist()
    with torch.no_grad():
        change = loss(model, torch.zeros_like(inputs), labels) - loss(model, inputs, labels)
    assert score == pytest.approx(float(change.abs().mean()), rel=0.02)


def test_samples_beyond_what_fits_at_once_are_all_counted(build, loss, monkeypatch) -> None:
    monkeypatch.setattr(path_methods, "_POINTS_AT_ONCE", 40)
    case = build("lenet")
    layout = channel_layout(case.model, case.inputs)
    method = Conductance(steps=16)  # two samples at once
    together = attribute(case.model, loss, [(case.inputs, case.labels)], layout, method)
    alone = [
        attribute(case.model, loss, [(case.inputs[i : i + 1], case.labels[i : i + 1])], layout, method)
        for i in range(len(case.inputs))
    ]
    for layer, scores in together.items():
        expected = torch.stack([single[layer] for single in alone]).mean(dim=0)
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["conductance", "integrated-gradients", "deeplift"])
def test_inputs_without_points_in_between_are_refused(method: str, loss) -> None:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    inputs, labels = torch.randint(0, 5, (3, 2)), torch.tensor([0, 1, 0])
    layout = channel_layout(model, inputs)
    with pytest.raises(NotSupported, match=r"use gradient-x-activation or ablation"):
        attribute(model, loss, [(inputs, labels)], layout, method)
    scores = attribute(model, loss, [(inputs, labels)], layout, "gradient-x-activation")
    assert float(scores["2"].max()) > 0
