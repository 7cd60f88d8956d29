from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedunlearn.channels.layout import ChannelGroup, Layout
from fedunlearn.channels.mask import ChannelMask
from fedunlearn.channels.selection import (
    auto_mask,
    excess,
    excess_totals,
    mass,
    normalised,
    rank,
    top_ratio,
    total_excess,
)
from fedunlearn.errors import SettingsError


def layout_of(**channels: int) -> Layout:
    groups = tuple(ChannelGroup(layer, n, (f"{layer}.weight",), (), layer, 1) for layer, n in channels.items())
    return Layout(groups, ("output.weight",), "output")


scores = st.lists(st.floats(0, 100, width=32), min_size=5, max_size=5).map(lambda values: torch.tensor(values))


def test_excess_by_hand() -> None:
    target = {"a": torch.tensor([6.0, 2.0, 2.0]), "b": torch.tensor([1.0, 1.0])}
    reference = {"a": torch.tensor([10.0, 10.0, 0.0]), "b": torch.tensor([5.0, 5.0])}
    found = excess(target, reference)
    assert found["a"].tolist() == pytest.approx([0.1, 0.0, 0.2]) and found["b"].tolist() == [0.0, 0.0]


@given(scores, scores, st.floats(0.01, 1000))
def test_excess_does_not_see_scale_and_is_half_the_distance(target: Tensor, reference: Tensor, factor: float) -> None:
    found = excess({"a": target}, {"a": reference})["a"]
    again = excess({"a": target.double() * factor}, {"a": reference})["a"]
    torch.testing.assert_close(found, again, rtol=1e-6, atol=1e-9)
    assert bool((found >= 0).all()) and float(found.sum()) <= 1 + 1e-9
    if target.sum() > 0 and reference.sum() > 0:
        distance = (normalised({"a": target})["a"] - normalised({"a": reference})["a"]).abs().sum() / 2
        assert float(found.sum()) == pytest.approx(float(distance), abs=1e-9)


def test_negative_scores_and_layers_without_any_attribution_count_as_zero() -> None:
    found = excess({"a": torch.tensor([-5.0, 1.0]), "b": torch.zeros(2)}, {"a": torch.ones(2), "b": torch.ones(2)})
    assert found["a"].tolist() == [0.0, 0.5] and found["b"].tolist() == [0.0, 0.0]


@given(scores, scores, st.floats(0.01, 1.0))
def test_auto_mask_is_the_smallest_that_covers(target: Tensor, reference: Tensor, coverage: float) -> None:
    found = excess({"a": target}, {"a": reference})["a"]
    selected = auto_mask({"a": target}, {"a": reference}, coverage).selected["a"]
    total = float(found.sum())
    if total == 0:
        assert len(selected) == 0
        return
    assert float(found[selected].sum()) >= coverage * total - 1e-9
    without_least = float(found[selected].sum() - found[selected].min())
    assert without_least < coverage * total + 1e-9
    assert bool((found[selected] > 0).all())
    best = torch.sort(found, descending=True).values[: len(selected)]
    torch.testing.assert_close(torch.sort(found[selected], descending=True).values, best)


def test_auto_mask_selects_nothing_in_a_layer_without_excess() -> None:
    target = {"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([2.0, 2.0])}
    reference = {"a": torch.ones(2), "b": torch.ones(2)}
    assert auto_mask(target, reference) == ChannelMask({"a": torch.tensor([0])})
    assert auto_mask(target, target).count() == 0


def test_totals_are_each_clients_excess_against_the_others() -> None:
    clients = [
        {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([1.0, 1.0])},
        {"a": torch.tensor([0.0, 1.0]), "b": torch.tensor([1.0, 1.0])},
        {"a": torch.tensor([1.0, 1.0]), "b": torch.tensor([1.0, 1.0])},
    ]
    # Layer a against the weighted mean of the others: [2/3, 1], [1, 2/3] and [1/2, 1/2]; layer b never differs.
    by_hand = [(1 - 2 / 5) / 2, (1 - 2 / 5) / 2, 0.0]
    assert excess_totals(clients, [1, 1, 2]) == pytest.approx(by_hand)
    assert excess_totals(clients[:1], [4]) == [0.0] and excess_totals([], []) == []


def test_total_and_mass_are_means_over_layers() -> None:
    target = {"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([2.0, -2.0])}
    reference = {"a": torch.ones(2), "b": torch.ones(2)}
    assert total_excess(target, reference) == pytest.approx((0.25 + 0.5) / 2)
    assert mass(target) == pytest.approx((4.0 + 2.0) / 2)


@given(scores, st.floats(0, 1))
def test_top_ratio_takes_the_ceiling_of_the_highest(values: Tensor, ratio: float) -> None:
    selected = top_ratio({"a": values}, ratio, layout_of(a=5)).selected["a"]
    assert len(selected) == math.ceil(ratio * 5 - 1e-9)
    rest = sorted(set(range(5)) - set(selected.tolist()))
    if len(selected) and rest:
        assert values[selected].min() >= values[rest].max()


def test_top_ratio_by_layer() -> None:
    values = {"a": torch.tensor([1.0, 2.0, 2.0, 0.0]), "b": torch.tensor([1.0, 2.0])}
    layout = layout_of(a=4, b=2)
    assert top_ratio(values, {"a": 0.25}, layout) == ChannelMask({"a": torch.tensor([1])})
    assert top_ratio(values, {"a": 0.5, "b": 1.0}, layout).count() == 4
    with pytest.raises(SettingsError, match=r"no layer c .*use a, b"):
        top_ratio(values, {"c": 0.5}, layout)
    for ratio in (-0.01, 1.01):
        with pytest.raises(SettingsError, match="between 0 and 1"):
            top_ratio(values, ratio, layout)


def test_rankings() -> None:
    target, reference = {"a": torch.tensor([4.0, 5.0, 1.0])}, {"a": torch.tensor([1.0, 8.0, 1.0])}

    def order(ranking: str) -> list[int]:
        return torch.argsort(rank(ranking, target, reference)["a"], descending=True, stable=True).tolist()

    assert order("excess")[0] == 0 and order("ratio") == [0, 2, 1]
    assert order("forget-only") == [1, 0, 2] and order("least") == [1, 2, 0]
    draws = [rank("random", target, reference, torch.Generator().manual_seed(seed))["a"] for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_mistakes_are_named() -> None:
    a = {"a": torch.ones(3)}
    with pytest.raises(SettingsError, match="excess, forget-only, least, random, ratio"):
        rank("best", a, a)
    with pytest.raises(SettingsError, match="Generator"):
        rank("random", a, a)
    for ranking in ("excess", "ratio", "forget-only", "least"):
        with pytest.raises(SettingsError, match="same network"):
            rank(ranking, a, {"b": torch.ones(3)})
        with pytest.raises(SettingsError, match="3 and 2 channels"):
            rank(ranking, a, {"a": torch.ones(2)})
    for coverage in (0.0, 1.5):
        with pytest.raises(SettingsError, match="coverage"):
            auto_mask(a, a, coverage)
    for counts in ([], [0]):
        with pytest.raises(SettingsError, match="counts"):
            excess_totals([a], counts)
