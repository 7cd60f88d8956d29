from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedunlearn.channels.packing import digest_state
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import SettingsError
from fedunlearn.strategies.method import methods


def gradients(tiny, model, samples) -> dict[str, torch.Tensor]:
    loss = tiny.TASK.loss(model, samples.inputs, samples.labels).mean()
    names = [name for name, _ in model.named_parameters()]
    return dict(zip(names, torch.autograd.grad(loss, list(model.parameters())), strict=True))


def test_one_step_by_hand(tiny) -> None:
    """Two targets, of whom one keeps samples, and another client; a batch of everything, no momentum."""
    clients = [
        tiny.Client(forget=tiny.samples(20, 1)),
        tiny.Client(forget=tiny.samples(10, 2), retain=tiny.samples(12, 3)),
        tiny.Client(retain=tiny.samples(24, 4)),
    ]
    model, whole = tiny.network(), replace(tiny.PLAIN, batch_size=64)
    served = tiny.serve(model, clients, "neggrad-plus", training=whole, alpha=0.7)
    union = type(clients[0].forget).concat
    forget = gradients(tiny, model, union([client.forget for client in clients]))
    retain = gradients(tiny, model, union([client.retain for client in clients]))
    for name, weight in model.named_parameters():
        expected = weight.detach() - 0.1 * (0.7 * retain[name] - 0.3 * forget[name])
        assert torch.allclose(served.model[name], expected, atol=1e-6), name


def test_alpha_1_is_fine_tuning(tiny) -> None:
    clients = [tiny.Client(forget=tiny.samples(20, 1)), tiny.Client(retain=tiny.samples(24, 2))]
    # The phases have other numbers, and so other generators: a batch of everything has no order that matters.
    model, recipe = tiny.network(), replace(tiny.PLAIN, momentum=0.9, batch_size=64)
    own = tiny.serve(model, clients, "neggrad-plus", rounds=2, training=recipe, alpha=1.0)
    plain = tiny.serve(model, clients, "fine-tune", rounds=2, training=recipe)
    for name, tensor in plain.model.items():
        assert torch.allclose(own.model[name], tensor, atol=1e-6), name


def test_the_less_alpha_the_more_is_forgotten(tiny) -> None:
    clients = [tiny.Client(forget=tiny.samples(24, 1)), tiny.Client(retain=tiny.samples(48, 2))]
    losses = []
    for alpha in (1.0, 0.9, 0.5):
        served = tiny.serve(tiny.network(), clients, "neggrad-plus", rounds=3, alpha=alpha)
        forget = clients[0].forget
        losses.append(tiny.TASK.loss(tiny.loaded(served.model), forget.inputs, forget.labels).mean().item())
    assert losses == sorted(losses) and losses[0] < losses[2]


def test_statistics_of_normalisation_are_those_of_the_retained_data(tiny) -> None:
    model = tiny.network(normalised=True)
    clients = [tiny.Client(forget=tiny.samples(24, 1)), tiny.Client(retain=tiny.samples(48, 2))]
    other = [tiny.Client(forget=tiny.samples(24, 8)), clients[1]]
    one, two = (tiny.serve(model, some, "neggrad-plus") for some in (clients, other))
    assert digest_state(one.model) != digest_state(two.model)
    for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert torch.equal(one.model[name], two.model[name]), name


@pytest.mark.parametrize("option", [{"alpha": 1.5}, {"forget_rate": 0}, {"forget_epochs": 0.5}])
def test_an_option_that_is_none_is_refused(option) -> None:
    with pytest.raises(SettingsError, match="expected a"):
        methods.get("neggrad-plus").phases(UnlearnSettings(options=option), 3)
