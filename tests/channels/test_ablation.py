from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedunlearn.channels.attribution import attribute
from fedunlearn.channels.layout import channel_layout


@pytest.mark.parametrize("name", ["lenet", "group-norm", "batch-norm", "shared", "vit", "resnet18"])
def test_it_agrees_with_zeroing_the_parameters_of_the_output_by_hand(build, loss, name: str) -> None:
    case = build(name)
    layout = channel_layout(case.model, case.inputs)
    layout = replace(layout, groups=layout.groups[:1] if name == "resnet18" else layout.groups)
    inputs, labels = case.inputs[:3], case.labels[:3]
    scores = attribute(case.model, loss, [(inputs, labels)], layout, "ablation")
    case.model.eval()
    parameters = dict(case.model.named_parameters())
    with torch.no_grad():
        before = loss(case.model, inputs, labels).mean()
        for group in layout.groups:
            for channel in range(min(group.channels, 12)):
                mine = [value for name, value in parameters.items() if name.startswith(f"{group.observed}.")]
                kept = [parameter[channel].clone() for parameter in mine]
                for parameter in mine:
                    parameter[channel] = 0
                rise = loss(case.model, inputs, labels).mean() - before
                for parameter, values in zip(mine, kept, strict=True):
                    parameter[channel] = values
                torch.testing.assert_close(scores[group.layer][channel], rise, rtol=1e-4, atol=1e-6)
