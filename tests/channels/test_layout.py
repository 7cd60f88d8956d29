from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fedunlearn.channels.layout import channel_layout
from fedunlearn.channels.packing import digest_state
from fedunlearn.errors import NoChannels


def layers(layout) -> list[tuple[str, int, str, int]]:
    return [(group.layer, group.channels, group.observed, group.channel_dim) for group in layout.groups]


def test_lenet(build) -> None:
    case = build("lenet")
    layout = channel_layout(case.model, case.inputs)
    assert layers(layout) == [("conv1", 4, "conv1", 1), ("conv2", 6, "conv2", 1), ("hidden", 8, "hidden", -1)]
    assert layout.groups[0].parameters == ("conv1.weight", "conv1.bias") and layout.groups[0].buffers == ()
    assert layout.output == ("output.weight", "output.bias") and layout.output_layer == "output"
    assert layout.total_channels == 18


@pytest.mark.parametrize(("name", "buffers"), [("group-norm", ()), ("batch-norm", ("1.running_mean", "1.running_var"))])
def test_a_normalisation_belongs_to_its_convolution(build, name: str, buffers: tuple[str, ...]) -> None:
    case = build(name)
    layout = channel_layout(case.model, case.inputs)
    assert layers(layout) == [("0", 4, "1", 1), ("5", 6, "5", -1)]
    assert layout.groups[0].parameters == ("0.weight", "0.bias", "1.weight", "1.bias")
    assert layout.groups[0].buffers == buffers


def test_resnet18_pairs_every_convolution_with_its_normalisation(build) -> None:
    case = build("resnet18")
    layout = channel_layout(case.model, case.inputs)
    names = dict(case.model.named_modules())
    convolutions = [name for name, module in names.items() if isinstance(module, nn.Conv2d)]
    assert sorted(group.layer for group in layout.groups) == sorted(convolutions)
    for group in layout.groups:
        partner = group.layer.replace("conv", "bn").replace("downsample.0", "downsample.1")
        assert group.observed == partner
        assert group.parameters == (f"{group.layer}.weight", f"{partner}.weight", f"{partner}.bias")
    assert layout.output_layer == "fc"


def test_transformer_channels_are_the_feed_forward_layers(build) -> None:
    case = build("vit")
    layout = channel_layout(case.model, case.inputs)
    block = "encoder.layers.encoder_layer_{}.mlp.{}"
    assert [(group.layer, group.channels) for group in layout.groups] == [
        (block.format(index, part), size) for index in range(2) for part, size in ((0, 12), (3, 8))
    ]
    assert all(group.channel_dim == -1 and group.observed == group.layer for group in layout.groups)
    assert layout.output_layer == "heads.head"


def test_a_shared_layer_counts_once_under_all_its_names(build) -> None:
    case = build("shared")
    layout = channel_layout(case.model, case.inputs)
    assert [group.layer for group in layout.groups] == ["stem", "block", "unused", "hidden"]
    assert layout.groups[1].parameters == ("block.weight", "again.weight", "block.bias", "again.bias")
    assert set(layout.groups[1].parameters) <= set(case.model.state_dict())


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(build, training: bool) -> None:
    case = build("batch-norm")
    case.model.train(training)
    case.model[1].eval()
    before = digest_state(case.model.state_dict())
    random_state = torch.get_rng_state()
    channel_layout(case.model, case.inputs)
    assert digest_state(case.model.state_dict()) == before
    assert case.model.training is training and not case.model[1].training
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not any(module._forward_hooks for module in case.model.modules())
    assert all(parameter.grad is None for parameter in case.model.parameters())


class PreActivation(nn.Module):
    """The first normalisation also feeds a residual path around it; the second sees one convolution alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(4)
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.norm3 = nn.BatchNorm2d(4)
        self.output = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.conv1(torch.relu(self.norm1(x)))
        x = x + self.conv2(torch.relu(self.norm2(torch.relu(y))))
        return self.output(self.norm3(x).mean(dim=(2, 3)))


def test_a_normalisation_of_a_sum_or_beside_a_residual_path_belongs_to_no_layer() -> None:
    layout = channel_layout(PreActivation(), torch.rand(2, 1, 6, 6))
    assert [(group.layer, group.observed) for group in layout.groups] == [
        ("stem", "stem"),
        ("conv1", "norm2"),
        ("conv2", "conv2"),
    ]


class NormalisationForEachUse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)
        self.first = nn.BatchNorm2d(2)
        self.second = nn.BatchNorm2d(2)
        self.output = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.second(self.conv(self.first(self.conv(x)))).mean(dim=(2, 3)))


def test_a_shared_layer_with_two_normalisations_owns_both_and_is_observed_itself() -> None:
    (group,) = channel_layout(NormalisationForEachUse(), torch.rand(2, 2, 3, 3)).groups
    assert group.observed == "conv"
    assert {"first.weight", "second.weight"} <= set(group.parameters)
    assert "second.running_var" in group.buffers


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.query(x), dim=-1) * x


def test_a_users_own_attention_holds_no_channels() -> None:
    model = nn.Sequential(SelfAttention(), nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))
    assert layers(channel_layout(model, torch.rand(2, 5, 4))) == [("1", 3, "2", -1)]


def test_a_layer_tied_to_the_output_layer_is_no_channel() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[0].weight = model[4].weight
    layout = channel_layout(model, torch.rand(2, 4))
    assert [group.layer for group in layout.groups] == ["2"]
    assert set(layout.output) == {"0.weight", "4.weight", "4.bias"}


@pytest.mark.parametrize("model", [nn.Linear(4, 2), nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), nn.Identity()])
def test_a_model_without_channels_is_refused(model: nn.Module) -> None:
    with pytest.raises(NoChannels, match=type(model).__name__):
        channel_layout(model, torch.rand(2, 4))
