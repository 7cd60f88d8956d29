from __future__ import annotations

import pytest
import torch
from torch import nn

from fedunlearn.channels.attribution import NotSupported, attribute
from fedunlearn.channels.layout import channel_layout


def test_a_bottleneck_of_one_channel_explains_the_whole_change_of_the_logit(loss) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 1), nn.Tanh(), nn.Linear(1, 4))
    inputs, labels = torch.rand(7, 3), torch.randint(0, 4, (7,))
    layout = channel_layout(model, inputs)
    (score,) = attribute(model, loss, [(inputs, labels)], layout, "deeplift")["0"].tolist()
    with torch.no_grad():
        change = (model(inputs) - model(torch.zeros_like(inputs)))[torch.arange(7), labels]
    assert score == pytest.approx(float(change.abs().mean()), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("lenet", "LeNet by .*no module that Captum has a rule for"),  # activations are functions
        ("group-norm", "no module that Captum has a rule for"),
        ("vit", "VisionTransformer by .*no module that Captum has a rule for"),
        ("shared", "SharedLayers by .*no module that Captum has a rule for"),
        ("resnet18", "ResNet to be a module that is used once"),  # one ReLU serves twice in each block
    ],
)
def test_models_that_captum_cannot_do_are_refused_with_a_sentence(build, loss, name: str, reason: str) -> None:
    case = build(name)
    layout = channel_layout(case.model, case.inputs)
    attributes = {module: set(vars(module)) for module in case.model.modules()}
    with pytest.raises(NotSupported, match=reason) as caught:
        attribute(case.model, loss, [(case.inputs, case.labels)], layout, "deeplift")
    assert "use gradient-x-activation" in str(caught.value) and "\n" not in str(caught.value)
    assert not any(module._forward_hooks or module._backward_hooks for module in case.model.modules())
    assert {module: set(vars(module)) for module in case.model.modules()} == attributes


def test_a_task_without_classes_is_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    batch = (torch.rand(5, 3), torch.rand(5))
    layout = channel_layout(model, batch[0])

    def squared_error(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (model(inputs)[:, 0] - targets) ** 2

    with pytest.raises(NotSupported, match="N class labels"):
        attribute(model, squared_error, [batch], layout, "deeplift")
    assert float(attribute(model, squared_error, [batch], layout)["0"].max()) > 0
