"""EWC, LwF and DER++ as baselines: one step of one client against a gradient of the written-down loss."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedunlearn.errors import ClientError, SettingsError
from fedunlearn.randomness import derive_seed
from fedunlearn.strategies.passes import wrong_labels


def distilled(model: nn.Module, before: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """2 x cross-entropy + 0.5 x 4 x KL at temperature 2."""
    wanted, shown = (functional.log_softmax(one(inputs) / 2, dim=1) for one in (before, model))
    apart = (wanted.exp() * (wanted - shown)).sum(dim=1) * 4
    return 2 * functional.cross_entropy(model(inputs), labels, reduction="none") + 0.5 * apart


def replayed(model: nn.Module, before: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy + 0.1 x mean squared distance of the features."""
    apart = (model[:-1](inputs) - before[:-1](inputs)).square().mean(dim=1)  # type: ignore[index]
    return functional.cross_entropy(model(inputs), labels, reduction="none") + 0.1 * apart


@pytest.mark.parametrize(("name", "keep"), [("lwf", distilled), ("der-plus-plus", replayed)])
def test_steps_of_all_samples_are_those_of_the_written_loss(tiny, name: str, keep: Callable) -> None:
    forget, retain, model = tiny.samples(24, 1), tiny.samples(40, 2), tiny.network()
    recipe = replace(tiny.PLAIN, batch_size=64)
    served = tiny.serve(model, [tiny.Client(forget=forget, retain=retain)], name, rounds=2, training=recipe)
    before = copy.deepcopy(model).requires_grad_(False)
    wrong = wrong_labels(forget.labels, 3, torch.Generator().manual_seed(derive_seed(tiny.SEED, "labels")))
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.learning_rate)
    for _ in range(2):
        optimizer.zero_grad()
        relabelled = functional.cross_entropy(model(forget.inputs), wrong, reduction="none")
        kept = keep(model, before, retain.inputs, retain.labels)
        torch.cat([relabelled, kept]).mean().backward()
        optimizer.step()
    for key, tensor in model.state_dict().items():
        assert torch.allclose(served.model[key], tensor, atol=1e-6), key


def test_ewc_holds_each_weight_by_its_importance(tiny) -> None:
    forget, retain, model = tiny.samples(24, 1), tiny.samples(40, 2), tiny.network()
    recipe = replace(tiny.PLAIN, batch_size=64)
    served = tiny.serve(
        model, [tiny.Client(forget=forget, retain=retain)], "ewc", rounds=2, training=recipe, strength=3
    )
    before = copy.deepcopy(model)
    importance = {key: torch.zeros_like(weight) for key, weight in model.named_parameters()}
    for batch in torch.arange(40).split(8):
        before.zero_grad()
        functional.cross_entropy(before(retain.inputs[batch]), retain.labels[batch]).backward()
        for key, weight in before.named_parameters():
            importance[key] += weight.grad.square() / 5
    wrong = wrong_labels(forget.labels, 3, torch.Generator().manual_seed(derive_seed(tiny.SEED, "labels")))
    inputs, labels = torch.cat([forget.inputs, retain.inputs]), torch.cat([wrong, retain.labels])
    optimizer, started = torch.optim.SGD(model.parameters(), lr=recipe.learning_rate), dict(before.named_parameters())
    for _ in range(2):
        optimizer.zero_grad()
        held = sum((importance[k] * (w - started[k].detach()).square()).sum() for k, w in model.named_parameters())
        (functional.cross_entropy(model(inputs), labels) + 3 * held).backward()
        optimizer.step()
    for key, tensor in model.state_dict().items():
        assert torch.allclose(served.model[key], tensor, atol=1e-6), key


@pytest.mark.parametrize("name", ["ewc", "lwf", "der-plus-plus"])
def test_without_a_target_nothing_is_called_forgotten(tiny, name: str) -> None:
    with pytest.raises(ClientError, match="no target answered"):
        tiny.serve(tiny.network(), [tiny.Client(retain=tiny.samples(30, 2))], name)


@pytest.mark.parametrize(("name", "option"), [("ewc", "strength"), ("lwf", "retain"), ("der-plus-plus", "features")])
def test_a_weight_is_no_less_than_nothing(tiny, name: str, option: str) -> None:
    with pytest.raises(SettingsError, match=f"{option} = -1"):
        tiny.serve(tiny.network(), [tiny.Client(forget=tiny.samples(24, 1))], name, **{option: -1})


@pytest.mark.parametrize("name", ["ewc", "lwf", "der-plus-plus"])
def test_who_forgets_everything_trains_on_wrong_labels_alone(tiny, name: str) -> None:
    clients = [tiny.Client(forget=tiny.samples(24, 1)), tiny.Client(retain=tiny.samples(40, 2))]
    served = tiny.serve(tiny.network(), clients, name)
    assert [reply.metrics["num-examples"] for reply in served.replies[0][1]] == [24, 40]
    assert all(torch.isfinite(tensor).all() for tensor in served.model.values())
