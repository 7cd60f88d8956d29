from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from fedunlearn.channels.packing import Portion
from fedunlearn.errors import SettingsError
from fedunlearn.tasks.stacked_parameters import StackedParameters
from fedunlearn.tasks.training import TrainingSettings

ALL = slice(0, 3)
HARD = TrainingSettings(1, 0.1, momentum=0.9, weight_decay=0.01, proximal_mu=0.2)
ROWS = Portion({"weight": torch.tensor([0, 2]), "bias": None})


def models() -> list[nn.Linear]:
    torch.manual_seed(0)
    return [nn.Linear(5, 3) for _ in range(3)]


def gradients(step: int) -> dict[str, Tensor | None]:
    generator = torch.Generator().manual_seed(step)
    return {
        "weight": torch.randn(3, 3, 5, generator=generator),
        "bias": torch.randn(3, 3, generator=generator),
    }


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_steps_are_those_of_torchs_own_optimiser(momentum: float, weight_decay: float) -> None:
    own = models()
    how = TrainingSettings(1, 0.1, momentum=momentum, weight_decay=weight_decay)
    stacked = StackedParameters(own, None, how)
    optimizers = [torch.optim.SGD(one.parameters(), 0.1, momentum, weight_decay=weight_decay) for one in own]
    for step in range(4):
        found = gradients(step)
        stacked.step(ALL, found)
        for k, (model, optimizer) in enumerate(zip(own, optimizers, strict=True)):
            for name, parameter in model.named_parameters():
                parameter.grad = found[name][k].clone()  # type: ignore[index]
            optimizer.step()
    results = models()
    stacked.write_back(results)
    for model, result in zip(own, results, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), result.parameters(), strict=True))


def test_rows_outside_the_portion_keep_every_bit() -> None:
    own = models()
    before = [copy.deepcopy(one) for one in own]
    stacked = StackedParameters(own, ROWS, HARD)
    for step in range(3):
        stacked.step(ALL, gradients(step))
    stacked.write_back(own)
    for old, new in zip(before, own, strict=True):
        assert torch.equal(old.weight[1], new.weight[1])
        assert not torch.equal(old.weight[0], new.weight[0]) and not torch.equal(old.bias, new.bias)


def test_the_pull_is_towards_the_start() -> None:
    own = models()
    start = own[0].weight.detach().clone()
    stacked = StackedParameters(own, None, TrainingSettings(1, 0.1, momentum=0.0, proximal_mu=0.2))
    ones: dict[str, Tensor | None] = {"weight": torch.ones(3, 3, 5), "bias": None}
    nothing: dict[str, Tensor | None] = {"weight": torch.zeros(3, 3, 5), "bias": None}
    stacked.step(ALL, ones)
    stacked.step(ALL, nothing)
    # The first step leaves the start by 0.1; the second is drawn back by 0.1 * 0.2 of that.
    assert torch.allclose(stacked.values(ALL)["weight"][0], start - 0.1 + 0.002, atol=1e-6)
    assert torch.equal(stacked.values(ALL)["bias"][0], own[0].bias)


def test_clients_may_be_at_different_steps() -> None:
    apart, together = (StackedParameters(models(), None, HARD) for _ in range(2))
    for step in range(3):
        together.step(ALL, gradients(step))
    for client in range(3):
        one = slice(client, client + 1)
        for step in range(3):
            apart.step(one, {name: value[one] for name, value in gradients(step).items()})  # type: ignore[index]
    assert together.snapshot(ALL).equals(apart.snapshot(ALL))


@pytest.mark.parametrize("portion", [None, ROWS])
def test_what_was_taken_back_never_was(portion: Portion | None) -> None:
    stacked, expected = (StackedParameters(models(), portion, HARD) for _ in range(2))
    first = slice(0, 2)
    before = stacked.snapshot(first)
    stacked.step(first, {name: value[first] for name, value in gradients(7).items()})  # type: ignore[index]
    assert not stacked.snapshot(first).equals(before)
    stacked.restore(first, before)
    for step in range(2):
        stacked.step(ALL, gradients(step))
        expected.step(ALL, gradients(step))
    assert stacked.snapshot(ALL).equals(expected.snapshot(ALL))
    for name, value in stacked.values(ALL).items():
        assert torch.equal(value, expected.values(ALL)[name])


def test_only_what_is_trained_wants_a_gradient() -> None:
    stacked = StackedParameters(models(), Portion({"bias": None}), HARD)
    assert {name: value.requires_grad for name, value in stacked.values(ALL).items()} == {
        "weight": False,
        "bias": True,
    }
    assert stacked.trained == {"bias"}


def test_nothing_selected_gets_a_sentence() -> None:
    with pytest.raises(SettingsError, match="selects no parameter"):
        StackedParameters(models(), Portion({}), HARD)
