from __future__ import annotations

import pytest
import torch
from torch import nn

from fedunlearn.channels.attribution import NotSupported, attribute
from fedunlearn.channels.layout import channel_layout
from fedunlearn.models import networks


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
        ("lenet", "LeNet by .*a nonlinear step in it is a function, and no module"),
        ("group-norm", "Captum has no rule for GroupNorm:"),
        ("vit", "VisionTransformer by .*Captum has no rule for .*LayerNorm"),
        ("shared", "SharedLayers by .*a nonlinear step in it is a function, and no module"),
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


@pytest.mark.parametrize(("network", "shape"), [("lenet", (1, 28, 28)), ("perceptron", (30,))])
def test_networks_of_the_built_in_tasks_can_be_explained(loss, network: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    model = networks.get(network)(shape, 4).eval()
    inputs, labels = torch.rand(5, *shape), torch.randint(0, 4, (5,))
    # All of the last hidden layer's units together explain the logit's change: the output layer is linear in them.
    layout = channel_layout(model, inputs)
    scores = attribute(model, loss, [(inputs, labels)], layout, "deeplift")
    last = layout.groups[-1]
    states: dict[str, torch.Tensor] = {}
    model.get_submodule(last.layer).register_forward_hook(lambda _, __, output: states.update(now=output.detach()))
    with torch.no_grad():
        model(torch.zeros_like(inputs))
        before = states["now"].relu()
        model(inputs)
        weights = model.get_submodule("output").weight[labels]
    expected = (weights * (states["now"].relu() - before)).abs().mean(dim=0)
    torch.testing.assert_close(scores[last.layer], expected, rtol=1e-4, atol=1e-6)


def test_max_pooling_behind_padding_is_refused_by_name(loss) -> None:
    torch.manual_seed(3)
    model = networks.get("lenet")((1, 8, 8), 4).eval()
    batch = torch.rand(5, 1, 8, 8), torch.randint(0, 4, (5,))
    with pytest.raises(NotSupported, match="Captum's rule for MaxPool2d does not hold behind padding"):
        attribute(model, loss, [batch], channel_layout(model, batch[0]), "deeplift")


def test_a_task_without_classes_is_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    batch = (torch.rand(5, 3), torch.rand(5))
    layout = channel_layout(model, batch[0])

    def squared_error(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (model(inputs)[:, 0] - targets) ** 2

    with pytest.raises(NotSupported, match="N class labels"):
        attribute(model, squared_error, [batch], layout, "deeplift")
    assert float(attribute(model, squared_error, [batch], layout)["0"].max()) > 0
