from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedunlearn.models import networks
from fedunlearn.tasks import frozen_layers
from fedunlearn.tasks.frozen_layers import FrozenLayers, cut
from fedunlearn.tasks.randomness import isolated_seed

Images = Callable[[int], Tensor]


def images(count: int, channels: int = 1, size: int = 8) -> Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(count))


def moving(model: nn.Module, *starts: str) -> set[nn.Parameter]:
    """The parameters whose names start so."""
    return {parameter for name, parameter in model.named_parameters() if name.startswith(starts)}


def cut_of(model: nn.Module, *starts: str) -> FrozenLayers:
    found = cut(model, moving(model, *starts))
    assert found is not None
    return found


def network(name: str) -> nn.Module:
    with isolated_seed(1):
        return networks.get(name)((1, 8, 8), 3)


class Calls:
    """Counts the samples that a module is called with."""

    def __init__(self, module: nn.Module) -> None:
        self.samples = 0
        module.register_forward_hook(self._count)

    def _count(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.samples += len(output)


CASES = [
    ("lenet", ("convolution2", "hidden", "output")),
    ("lenet", ("output",)),
    ("groupnorm-cnn", ("blocks.1", "blocks.2", "hidden", "output")),
    ("groupnorm-cnn", ("hidden",)),
    ("resnet20", ("blocks.3.convolution2", "output")),
    ("resnet20", ("blocks.3.shortcut",)),
    ("resnet20", ("blocks.8",)),
]


@pytest.mark.parametrize(("name", "starts"), CASES)
def test_a_cut_network_gives_the_same_outputs_and_gradients(name: str, starts: tuple[str, ...]) -> None:
    model = network(name).train()
    wanted = moving(model, *starts)
    for parameter in model.parameters():
        parameter.requires_grad_(parameter in wanted)
    found = cut_of(model, *starts)
    inputs = images(5)
    found.expect(inputs, torch.arange(5))
    results = []
    for called in (model, found):
        output = called(inputs)
        results.append([output, *torch.autograd.grad(output.square().sum(), list(wanted))])
    for one, another in zip(*results, strict=True):
        assert torch.equal(one, another)


def test_what_comes_before_the_cut_has_no_graph_and_what_comes_after_has() -> None:
    model = network("resnet20").train()
    found = cut_of(model, "blocks.4")
    outputs: dict[str, Tensor] = {}
    for name in ("blocks.3.activation2", "blocks.4.norm2"):
        model.get_submodule(name).register_forward_hook(lambda m, i, o, name=name: outputs.update({name: o}))
    inputs = images(2)
    found.expect(inputs, torch.arange(2))
    found(inputs)
    assert not outputs["blocks.3.activation2"].requires_grad
    assert outputs["blocks.4.norm2"].requires_grad


def test_kept_activations_are_computed_once_a_sample_and_are_the_same() -> None:
    model = network("lenet").train()
    found, everything = cut_of(model, "convolution2"), images(7)
    first = Calls(model.get_submodule("convolution1"))
    found.keep(7)
    for positions in (torch.tensor([6, 0, 3]), torch.tensor([1, 2, 4, 5]), torch.tensor([0, 5, 1]), torch.arange(7)):
        inputs = everything[positions]
        found.expect(inputs, positions)
        before = first.samples
        output = found(inputs)
        computed = first.samples - before
        torch.testing.assert_close(output, model(inputs), rtol=0, atol=1e-6)
        first.samples = before + computed
    assert first.samples == 7


def test_a_batch_that_is_known_in_part_is_computed_anew() -> None:
    model = network("lenet").train()
    found, everything = cut_of(model, "hidden"), images(4)
    found.keep(4)
    for positions in (torch.tensor([0, 1]), torch.tensor([1, 2])):
        inputs = everything[positions]
        found.expect(inputs, positions)
        torch.testing.assert_close(found(inputs), model(inputs), rtol=0, atol=1e-6)


def test_too_much_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen_layers, "MOST_BYTES", 16 * 4 * 4 * 4 * 7 - 1)
    model = network("lenet").train()
    found, inputs = cut_of(model, "convolution2"), images(7)
    first = Calls(model.get_submodule("convolution1"))
    found.keep(7)
    for _ in range(2):
        found.expect(inputs, torch.arange(7))
        assert torch.equal(found(inputs), model(inputs))
    assert first.samples == 4 * 7


def test_another_batch_than_the_expected_one_is_the_models_business() -> None:
    model = network("lenet").train()
    found, inputs = cut_of(model, "output"), images(3)
    found.keep(3)
    found.expect(inputs, torch.arange(3))
    other = images(5)
    assert torch.equal(found(other), model(other))


def test_anything_else_is_asked_of_the_model() -> None:
    model = network("lenet").train()
    found = cut_of(model, "output")
    assert torch.equal(found._features(images(2)), model._features(images(2)))  # type: ignore[operator]
    with pytest.raises(AttributeError):
        _ = found.nothing_of_the_kind


class Residual(nn.Module):
    """Two branches that cross the cut, one of them the input itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.full((4,), 2.0))

    def forward(self, inputs: Tensor) -> Tensor:
        left = functional.relu(self.first(inputs)) * self.scale
        right = torch.tanh(self.second(left))
        return self.third(right + left) + inputs


def test_all_that_crosses_is_handed_over() -> None:
    model = Residual().train()
    for starts in (("second",), ("third",), ("scale",)):
        found, inputs = cut_of(model, *starts), torch.rand(3, 4)
        found.expect(inputs, torch.arange(3))
        assert torch.equal(found(inputs), model(inputs))


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True)
        )
        self.output = nn.Linear(4 * 16, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.output(self.layers(inputs).flatten(1))


def test_activations_in_place_leave_kept_ones_alone() -> None:
    model = InPlace().train()
    wanted = moving(model, "layers.2")
    found, inputs = cut_of(model, "layers.2"), images(3)
    expected = model(inputs).detach()
    found.keep(3)
    for _ in range(3):
        found.expect(inputs, torch.arange(3))
        torch.testing.assert_close(found(inputs).detach(), expected)
    assert wanted


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("kind", [nn.Dropout(0.5), nn.BatchNorm1d(6), nn.Dropout1d(0.5)])
def test_what_is_random_or_learns_statistics_is_never_before_the_cut(kind: nn.Module, mode: bool) -> None:
    model = nn.Sequential(nn.Linear(4, 6), kind, nn.Linear(6, 6), nn.Linear(6, 2)).train()
    kind.train(mode)
    found = cut_of(model, "3")
    before = {str(node.target) for node in found.before.graph.nodes if node.op == "call_module"}
    assert before == ({"0"} if mode else {"0", "1", "2"})


def test_a_random_function_is_never_before_the_cut() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, inputs: Tensor) -> Tensor:
            noisy = functional.dropout(self.first(inputs), 0.5, self.training)
            return self.third(self.second(noisy))

    found = cut_of(Noisy().train(), "third")
    assert {str(node.target) for node in found.before.graph.nodes if node.op == "call_module"} == {"first"}


class Stubborn(nn.Module):
    """Its forward depends on values, which tracing does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs)
        return self.second(hidden if hidden.sum() > 0 else -hidden)


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.second(self.first(inputs))


@pytest.mark.parametrize(
    ("model", "starts"),
    [
        (Stubborn(), ("second",)),
        (Two(), ("second",)),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), ("1",)),
        (nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), ("0",)),
    ],
    ids=["cannot be traced", "two inputs", "no layer before", "the first moves"],
)
def test_some_models_are_not_cut(model: nn.Module, starts: tuple[str, ...]) -> None:
    assert cut(model.train(), moving(model, *starts)) is None


class Mixing(nn.Module):
    """Each sample less the mean of its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs)
        return self.second(hidden - hidden.mean(0))


def test_a_model_that_mixes_its_batch_is_found_out() -> None:
    assert not cut_of(Mixing().train(), "second").treats_samples_alone(torch.rand(6, 4))
    assert cut_of(Residual().train(), "second").treats_samples_alone(torch.rand(6, 4))
    assert cut_of(network("resnet20").train(), "blocks.5").treats_samples_alone(images(6))


def test_a_cut_is_remembered_with_the_model_and_forgotten_with_it() -> None:
    model = network("lenet").train()
    assert cut_of(model, "output").before is cut_of(model, "output").before
    assert cut_of(model, "output").before is not cut_of(model, "hidden").before
    there = weakref.ref(model)
    del model
    gc.collect()
    assert there() is None
