from __future__ import annotations

import pytest
import torch

from fedunlearn.channels.attribution import attribute
from fedunlearn.channels.layout import channel_layout


@pytest.mark.parametrize("name", ["lenet", "group-norm", "batch-norm", "shared", "vit", "resnet18"])
def test_it_is_the_gradient_of_a_gate_on_the_channel_sample_by_sample(build, loss, name: str) -> None:
    """d log-likelihood / d gate at gate 1 is the sum over space, tokens and calls of activation x slope."""
    case = build(name)
    layout = channel_layout(case.model, case.inputs)
    scores = attribute(case.model, loss, [(case.inputs, case.labels)], layout)
    case.model.eval()
    gates = {}
    for group in layout.groups:
        gates[group.layer] = torch.ones(group.channels, requires_grad=True)

        def close(module, inputs, output, group=group):
            shape = [1] * output.dim()
            shape[group.channel_dim] = -1
            return output * gates[group.layer].view(shape)

        case.model.get_submodule(group.observed).register_forward_hook(close)
    expected = {layer: torch.zeros(len(gate)) for layer, gate in gates.items()}
    for index in range(len(case.inputs)):
        value = -loss(case.model, case.inputs[index : index + 1], case.labels[index : index + 1])
        slopes = torch.autograd.grad(value.sum(), list(gates.values()), allow_unused=True)
        for layer, slope in zip(gates, slopes, strict=True):
            expected[layer] += 0 if slope is None else slope.abs() / len(case.inputs)
    for layer, values in expected.items():
        torch.testing.assert_close(scores[layer], values, rtol=1e-4, atol=1e-6)
