from __future__ import annotations

import pytest
import torch
from torch import nn

from fedunlearn.channels.layout import channel_layout
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import SettingsError
from fedunlearn.strategies.federated.weight_negation import negate
from fedunlearn.strategies.method import methods


def signs(before, after) -> dict[str, int]:
    """1 for a tensor that is as it was, -1 for one with the opposite sign, 0 for anything else."""
    return {
        name: 1 if torch.equal(before[name], after[name]) else -1 if torch.equal(before[name], -after[name]) else 0
        for name in before
    }


def test_the_first_layer_goes_down_negated_and_nothing_else_does(place) -> None:
    settings = UnlearnSettings(method="not", rounds=2)
    state = place.state("client", settings)
    first = methods.get("not").phases(settings, 2)[0].down(state)
    sent = {name: torch.from_numpy(array) for name, array in first.packed.items()}
    found = signs(place.model, sent)
    assert {name for name, sign in found.items() if sign == -1} == {"convolution1.weight", "convolution1.bias"}
    assert {sign for name, sign in found.items() if not name.startswith("convolution1.")} == {1}


def test_layers_are_chosen_by_name_and_the_normalisation_keeps_its_sign() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.GroupNorm(1, 2), nn.Flatten(), nn.Linear(8, 3), nn.Linear(3, 2))
    layout = channel_layout(model, torch.rand(2, 1, 2, 2))
    state = {name: tensor.clone() + 1 for name, tensor in model.state_dict().items()}
    found = signs(state, negate(state, layout, "0, 4"))
    assert {name for name, sign in found.items() if sign == -1} == {"0.weight", "0.bias", "4.weight", "4.bias"}
    assert {name for name, sign in found.items() if sign == 1} == {"1.weight", "1.bias", "3.weight", "3.bias"}
    assert signs(state, negate(negate(state, layout), layout)) == dict.fromkeys(state, 1)


def test_a_layer_under_two_names_is_negated_under_both() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(3, 3)
            self.other = self.one
            self.last = nn.Linear(3, 2)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.last(self.other(self.one(inputs).relu()))

    model = Shared()
    layout = channel_layout(model, torch.rand(2, 3))
    state = dict(model.state_dict())
    found = signs(state, negate(state, layout))
    assert found["one.weight"] == found["other.weight"] == -1


def test_a_layer_that_is_not_there_is_refused(place) -> None:
    with pytest.raises(SettingsError, match="layers that can be negated are convolution1"):
        place.serve("client", UnlearnSettings(method="not", rounds=1, options={"layer": "attic"}))
