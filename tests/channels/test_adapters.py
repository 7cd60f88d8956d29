"""Low-rank adapters, against sums by hand and against the network that peft makes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from fedunlearn.channels.adapter_places import adapter_places
from fedunlearn.channels.adapters import (
    DOWN,
    UP,
    AdapterPlan,
    Adapters,
    adapted,
    drawn,
    factor_name,
    without_adapters,
)
from fedunlearn.channels.layout import channel_layout
from fedunlearn.channels.packing import nbytes, pack, unpack
from fedunlearn.errors import CorruptModel, SettingsError
from fedunlearn.models import networks

SHAPES = {"vit-small": (1, 8, 8), "lenet": (1, 8, 8), "resnet20": (3, 8, 8)}


def plan_for(network: nn.Module, shape: tuple[int, int, int], rank: int = 2, both: bool = False) -> AdapterPlan:
    places = adapter_places(network, channel_layout(network, torch.rand(2, *shape)))
    return AdapterPlan(places, rank=rank, scale=0.5, seed=3, both=both)


def filled(adapters: Adapters, size: float = 0.3) -> Adapters:
    generator = torch.Generator().manual_seed(4)
    factors = {n: size * torch.randn(t.shape, generator=generator) for n, t in adapters.factors.items()}
    return replace(adapters, factors=factors)


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("name", SHAPES)
def test_merged_answers_as_unmerged(name: str, both: bool) -> None:
    torch.manual_seed(0)
    network = networks.get(name)(SHAPES[name], 5).eval()
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    adapters = filled(Adapters.fresh(plan_for(network, SHAPES[name], both=both), state))
    inputs = torch.rand(3, *SHAPES[name])
    with torch.no_grad():
        before = network(inputs)
        wrapped = adapted(network, adapters).eval()
        unmerged = wrapped(inputs)
        with without_adapters(wrapped):
            assert torch.equal(wrapped(inputs), before)
        assert torch.equal(wrapped(inputs), unmerged)
        network.load_state_dict(adapters.merged(state))
        assert torch.allclose(network(inputs), unmerged, rtol=0, atol=1e-6)
    assert (unmerged - before).abs().max() > 1e-3
    assert all(torch.equal(state[key], adapters.merged(state)[key]) for key in state if "bias" in key)


def test_a_linear_layer_by_hand() -> None:
    plan = AdapterPlan((("layer",),), rank=1, scale=2.0, seed=0, both=True)
    factors = {
        factor_name("layer", DOWN): torch.tensor([[1.0, 2.0]]),
        factor_name("layer", UP): torch.tensor([[3.0], [5.0]]),
    }
    merged = Adapters(plan, factors).merged({"layer.weight": torch.zeros(2, 2), "layer.bias": torch.ones(2)})
    assert merged["layer.weight"].tolist() == [[6.0, 12.0], [10.0, 20.0]]
    assert merged["layer.bias"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "shape", "blocks", "expected"),
    [("vit-medium", (3, 112, 112), 6, 245_760), ("vit-b-16", (3, 224, 224), 12, 737_280)],
)
def test_as_many_factors_as_the_paper_says(name: str, shape: tuple[int, int, int], blocks: int, expected: int) -> None:
    with torch.device("meta"):
        network = networks.get(name)(shape, 100)
        plan = plan_for(network, shape, rank=8, both=True)
    assert [len(group) for group in plan.groups] == [2] * blocks
    weights = {layer: network.get_submodule(layer).weight for layer in plan.layers}
    counted = sum(plan.rank * (weight.shape[0] + weight.shape[1]) for weight in weights.values())
    assert counted == expected
    # The same through what is sent, as numbers of four bytes.
    adapters = Adapters(plan, {})
    sizes = {f"{layer}.weight": torch.zeros(()).expand(weight.shape) for layer, weight in weights.items()}
    adapters = Adapters.fresh(plan, sizes)
    assert nbytes(plan.portion, adapters.factors) == 4 * expected


def test_a_group_is_gone_when_it_adds_nothing_and_not_before() -> None:
    plan = AdapterPlan((("a", "b"), ("c", "d")), rank=1, scale=1.0, seed=0)
    values = {"a": [[0.0], [0.0]], "b": [[0.0], [1e-30]], "c": [[0.0], [0.0]], "d": [[0.0], [-0.0]]}
    adapters = Adapters(plan, {factor_name(layer, UP): torch.tensor(value) for layer, value in values.items()})
    after = adapters.without_zeros()
    assert after.plan.groups == (("a", "b"),)
    assert after.factors.keys() == {factor_name(layer, UP) for layer in "ab"}
    # What is gone changes nothing: exactly, not nearly.
    weights = {f"{layer}.weight": torch.rand(2, 3) for layer in values}
    assert torch.equal(after.merged(weights)["c.weight"], weights["c.weight"])


def test_packing_carries_adapters_as_it_does_models() -> None:
    network = networks.get("vit-small")((1, 8, 8), 10)
    adapters = filled(Adapters.fresh(plan_for(network, (1, 8, 8)), network.state_dict()))
    packed = pack(adapters.factors, adapters.plan.portion)
    empty = Adapters.fresh(adapters.plan, network.state_dict())
    again = unpack(empty.factors, packed, adapters.plan.portion)
    assert all(torch.equal(again[name], factor) for name, factor in adapters.factors.items())
    assert sum(array.nbytes for array in packed.values()) == 4 * 4 * 2 * (64 + 256)


def test_every_node_draws_the_same_first_factor() -> None:
    plan = AdapterPlan((("a",), ("b",)), rank=3, scale=1.0, seed=5)
    one, same, other = (drawn(plan, layer, torch.Size((7, 16))) for layer in ("a", "a", "b"))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert one.shape == (3, 16) and one.abs().max() <= 1 / math.sqrt(16)


def test_only_what_moves_has_a_gradient() -> None:
    network = networks.get("lenet")((1, 8, 8), 10)
    adapters = Adapters.fresh(plan_for(network, (1, 8, 8)), network.state_dict())
    wrapped = adapted(network, adapters)
    with without_adapters(wrapped):
        pass
    assert {n for n, p in wrapped.named_parameters() if p.requires_grad} == set(adapters.factors)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_plan_travels_as_text() -> None:
    plan = AdapterPlan((("a", "b"), ("c",)), rank=2, scale=0.25, seed=2**62, both=True)
    assert AdapterPlan.of_text(plan.to_text()) == plan


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"groups": [["a"]], "rank": 1.5, "scale": 1.0, "seed": 1}', '{"groups": 3, "rank": 1}',
             '{"groups": [["a"]], "rank": 0, "scale": 1.0, "seed": 1}',
             '{"groups": [["a"], ["a"]], "rank": 1, "scale": 1.0, "seed": 1}']
)  # fmt: skip
def test_a_plan_that_is_none_is_told(text: str) -> None:
    with pytest.raises(SettingsError, match="adapter"):
        AdapterPlan.of_text(text)


def test_a_plan_for_another_network_is_told() -> None:
    network = networks.get("lenet")((1, 8, 8), 10)
    plan = AdapterPlan((("absent",),), rank=1, scale=1.0, seed=0)
    with pytest.raises(SettingsError, match="no layer 'absent'"):
        Adapters.fresh(plan, network.state_dict())
    with pytest.raises(SettingsError, match="no layer 'absent'"):
        adapted(network, Adapters(plan))
    own = plan_for(network, (1, 8, 8))
    with pytest.raises(CorruptModel, match="exactly the ones that move"):
        adapted(network, Adapters(own))
    wrong = {name: factor[:1] for name, factor in Adapters.fresh(own, network.state_dict()).factors.items()}
    with pytest.raises(CorruptModel, match="the shapes"):
        adapted(network, Adapters(own, wrong))
