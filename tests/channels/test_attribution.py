from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedunlearn.channels.attribution import NotSupported, attribute, attribution_methods
from fedunlearn.channels.layout import Layout, channel_layout
from fedunlearn.channels.packing import digest_state
from fedunlearn.channels.path_methods import Conductance
from fedunlearn.errors import DataError, SettingsError, UnknownName

METHODS = attribution_methods.names()
# Everything else of deeplift is refused: see test_deeplift.py. Ablation of a ResNet: see test_ablation.py.
COMBINATIONS = [
    (method, name)
    for method in METHODS
    for name in ("lenet", "group-norm", "batch-norm", "shared", "vit", "resnet18")
    if (method != "deeplift" or name == "batch-norm") and (method, name) != ("ablation", "resnet18")
]


def some_layers(layout: Layout) -> Layout:
    """The first and the last layers: enough where every layer costs passes of a large network."""
    return replace(layout, groups=(*layout.groups[:1], *layout.groups[-1:])) if len(layout.groups) > 8 else layout


def test_all_five_methods_are_registered() -> None:
    assert set(METHODS) >= {
        "gradient-x-activation",
        "ablation",
        "conductance",
        "integrated-gradients",
        "deeplift",
    }


@pytest.mark.parametrize(("method", "name"), COMBINATIONS)
def test_contract_batching_changes_nothing_and_the_model_is_left_alone(build, loss, method: str, name: str) -> None:
    case = build(name)
    layout = some_layers(channel_layout(case.model, case.inputs))
    case.model.train()
    before = digest_state(case.model.state_dict())
    attributes = {module: set(vars(module)) for module in case.model.modules()}
    inputs, labels = case.inputs, case.labels
    whole = attribute(case.model, loss, [(inputs, labels)], layout, method)
    batches = [(inputs[:1], labels[:1]), (inputs[1:1], labels[1:1]), (inputs[1:], labels[1:])]
    parts = attribute(case.model, loss, iter(batches), layout, method)
    assert [(layer, len(scores)) for layer, scores in whole.items()] == [
        (group.layer, group.channels) for group in layout.groups
    ]
    for layer, scores in whole.items():
        assert scores.dtype == torch.float32
        torch.testing.assert_close(parts[layer], scores, rtol=1e-5, atol=1e-6)
        if method != "ablation":
            assert bool((scores >= 0).all())
    assert any(bool((scores != 0).any()) for scores in whole.values())
    assert digest_state(case.model.state_dict()) == before
    assert case.model.training and all(parameter.grad is None for parameter in case.model.parameters())
    assert {module: set(vars(module)) for module in case.model.modules()} == attributes
    assert not any(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks for module in case.model.modules()
    )


@pytest.mark.parametrize(("method", "name"), COMBINATIONS)
def test_a_channel_whose_output_is_zero_scores_exactly_zero(build, loss, method: str, name: str) -> None:
    case = build(name)
    layout = some_layers(channel_layout(case.model, case.inputs))
    state = dict(case.model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for group in layout.groups:
            for parameter in group.parameters:
                state[parameter][1] = 0
            for buffer in group.buffers:
                if buffer.endswith("mean"):
                    case.model.get_buffer(buffer)[1] = 0
    scores = attribute(case.model, loss, [(case.inputs, case.labels)], layout, method)
    assert [float(values[1]) for values in scores.values()] == [0.0] * len(scores)
    alive = torch.cat([values for layer, values in scores.items() if layer != "unused"])
    assert bool((alive != 0).any())


@pytest.mark.parametrize("method", METHODS)
def test_a_channel_that_nothing_reads_scores_exactly_zero(build, loss, method: str) -> None:
    case = build("batch-norm")
    layout = channel_layout(case.model, case.inputs)
    with torch.no_grad():
        case.model[5].weight[:, 4:8] = 0  # the four pixels of channel 1
        case.model[7].weight[:, 2] = 0
    scores = attribute(case.model, loss, [(case.inputs, case.labels)], layout, method)
    assert float(scores["0"][1]) == 0.0 and float(scores["5"][2]) == 0.0
    assert float(scores["0"].abs().max()) > 0 and float(scores["5"].abs().max()) > 0


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"deeplift"}))
def test_a_layer_whose_output_is_dropped_scores_exactly_zero(build, loss, method: str) -> None:
    case = build("shared")
    layout = channel_layout(case.model, case.inputs)
    scores = attribute(case.model, loss, [(case.inputs, case.labels)], layout, method)
    assert scores["unused"].tolist() == [0.0, 0.0, 0.0]
    assert float(scores["block"].abs().max()) > 0


@pytest.mark.parametrize("method", METHODS)
def test_every_method_agrees_on_a_linear_model(method: str) -> None:
    """Without bias and nonlinearity each of them is the channel's contribution to the output."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 2, bias=False))
    inputs, labels = torch.rand(5, 4), torch.tensor([0, 1, 1, 0, 1])

    def minus_logit(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        return -model(inputs).gather(1, labels[:, None])[:, 0]

    layout = channel_layout(model, inputs)
    scores = attribute(model, minus_logit, [(inputs, labels)], layout, method)["0"]
    contributions = (inputs @ model[0].weight.T) * model[1].weight[labels]
    expected = contributions.mean(dim=0) if method == "ablation" else contributions.abs().mean(dim=0)
    torch.testing.assert_close(scores, expected.detach(), rtol=1e-5, atol=1e-6)


def test_frozen_parameters_and_no_grad_change_nothing(build, loss) -> None:
    case = build("lenet")
    layout = channel_layout(case.model, case.inputs)
    batches = [(case.inputs, case.labels)]
    expected = attribute(case.model, loss, batches, layout)
    with torch.no_grad():
        frozen = attribute(case.model.requires_grad_(False), loss, batches, layout)
    assert all(torch.equal(frozen[layer], scores) for layer, scores in expected.items())


def test_a_method_may_be_given_itself(build, loss) -> None:
    case = build("lenet")
    layout = channel_layout(case.model, case.inputs)
    coarse, fine, default = (
        attribute(case.model, loss, [(case.inputs, case.labels)], layout, method)["conv1"]
        for method in (Conductance(steps=1), Conductance(steps=16), "conductance")
    )
    assert torch.equal(fine, default) and not torch.equal(coarse, fine)


def test_token_rows_that_are_folded_into_the_batch_belong_to_their_sample() -> None:
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Linear(3, 4)
            self.output = nn.Linear(4, 2)
            self.fold = True

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.hidden(x.flatten(0, 1)).view(*x.shape[:2], 4) if self.fold else self.hidden(x)
            return self.output(tokens.tanh().mean(dim=1))

    def loss(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(model(inputs), labels, reduction="none")

    torch.manual_seed(0)
    model, batch = Folded(), (torch.rand(4, 5, 3), torch.tensor([0, 1, 1, 0]))
    layout = channel_layout(model, batch[0])
    for method in ("gradient-x-activation", "ablation"):
        model.fold = True
        folded = attribute(model, loss, [batch], layout, method)
        model.fold = False
        plain = attribute(model, loss, [batch], layout, method)
        torch.testing.assert_close(folded["hidden"], plain["hidden"])
    model.fold = True
    with pytest.raises(NotSupported, match="one entry a sample"):
        attribute(model, loss, [batch], layout, "conductance")


def test_a_sequence_first_model_is_refused(loss) -> None:
    class SequenceFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Linear(3, 4)
            self.output = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.output(self.hidden(x.transpose(0, 1)).mean(dim=0))

    model, inputs = SequenceFirst(), torch.rand(4, 8, 3)
    layout = channel_layout(model, inputs)
    for method in ("gradient-x-activation", "ablation"):
        with pytest.raises(NotSupported, match="batch-first"):
            attribute(model, loss, [(inputs, torch.zeros(4, dtype=torch.int64))], layout, method)


def test_a_model_whose_path_depends_on_the_data_is_refused(loss) -> None:
    class Recurring(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Linear(3, 3)
            self.output = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(len(x)):
                x = self.hidden(x)
            return self.output(x)

    model, inputs = Recurring(), torch.rand(2, 3)
    with pytest.raises(NotSupported, match="runs more often for some samples"):
        attribute(model, loss, [(inputs, torch.tensor([0, 1]))], channel_layout(model, inputs))


def test_mistakes_are_named(build, loss) -> None:
    case = build("lenet")
    layout = channel_layout(case.model, case.inputs)
    batch = (case.inputs, case.labels)
    with pytest.raises(UnknownName, match="gradient-x-activation"):
        attribute(case.model, loss, [batch], layout, "gradient-x-activations")
    with pytest.raises(DataError, match="no sample"):
        attribute(case.model, loss, [], layout)
    with pytest.raises(DataError, match="no sample"):
        attribute(case.model, loss, [(case.inputs[:0], case.labels[:0])], layout)
    with pytest.raises(SettingsError, match="one value a sample"):
        attribute(case.model, lambda m, x, y: loss(m, x, y).mean(), [batch], layout)
    with pytest.raises(DataError, match="not finite"):
        attribute(case.model, loss, [(case.inputs * float("inf"), case.labels)], layout)
    with pytest.raises(SettingsError, match="0 steps"):
        Conductance(steps=0)
