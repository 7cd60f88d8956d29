from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from fedunlearn.channels.packing import digest_state
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import SettingsError
from fedunlearn.strategies.centralised.l1_sparse import penalties
from fedunlearn.strategies.method import methods


def test_without_a_penalty_it_is_fine_tuning_to_the_bit(tiny, place) -> None:
    clients = [tiny.Client(retain=tiny.samples(30, 1)), tiny.Client(retain=tiny.samples(50, 2))]
    own = tiny.serve(tiny.network(), clients, "l1-sparse", rounds=3, gamma=0.0)
    plain = tiny.serve(tiny.network(), clients, "fine-tune", rounds=3)
    assert digest_state(own.model) == digest_state(plain.model)
    served = [
        place.serve("client", UnlearnSettings(method=name, rounds=2, options=options))[0]
        for name, options in (("l1-sparse", {"gamma": 0}), ("fine-tune", {}))
    ]
    assert digest_state(served[0].model) == digest_state(served[1].model)


def test_one_step_by_hand(tiny) -> None:
    model, some = tiny.network(), tiny.samples(30, 1)
    recipe = replace(tiny.PLAIN, batch_size=64)
    served = tiny.serve(model, [tiny.Client(retain=some)], "l1-sparse", training=recipe, gamma=0.02)
    slopes = torch.autograd.grad(functional.cross_entropy(model(some.inputs), some.labels), list(model.parameters()))
    for (name, weight), slope in zip(model.named_parameters(), slopes, strict=True):
        expected = weight.detach() - 0.1 * (slope + 0.02 * weight.detach().sign())
        assert torch.allclose(served.model[name], expected, atol=1e-6), name


def test_the_penalty_falls_to_nothing() -> None:
    assert penalties(0.6, 3, 0) == pytest.approx([0.6, 0.4, 0.2])
    assert penalties(0.6, 4, 2) == pytest.approx([0.6, 0.3, 0.0, 0.0])
    assert penalties(0.6, 2, 2) == [0.0, 0.0]


def test_each_round_has_its_own_penalty(tiny) -> None:
    """Two rounds of which the second has none: the first by the method, the second by fine-tuning."""
    clients = [tiny.Client(retain=tiny.samples(30, 1))]
    recipe = replace(tiny.PLAIN, batch_size=64)
    own = tiny.serve(tiny.network(), clients, "l1-sparse", 2, recipe, gamma=0.05, rounds_without=1)
    first = tiny.serve(tiny.network(), clients, "l1-sparse", 1, recipe, gamma=0.05)
    second = tiny.serve(tiny.loaded(first.model), clients, "fine-tune", 1, recipe)
    for name, tensor in second.model.items():
        assert torch.allclose(own.model[name], tensor, atol=1e-7), name


def test_weights_become_smaller(tiny) -> None:
    clients = [tiny.Client(retain=tiny.samples(60, 1))]
    sizes = []
    for gamma in (0.0, 0.01, 0.1):
        model = tiny.serve(tiny.network(), clients, "l1-sparse", rounds=3, gamma=gamma).model
        sizes.append(sum(float(tensor.abs().sum()) for tensor in model.values()))
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < 0.9 * sizes[0]


@pytest.mark.parametrize("option", [{"gamma": -1}, {"rounds_without": 4}])
def test_an_option_that_is_none_is_refused(option) -> None:
    with pytest.raises(SettingsError, match="expected a"):
        methods.get("l1-sparse").phases(UnlearnSettings(rounds=3, options=option), 3)
