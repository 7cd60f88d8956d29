from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.channels.layout import ChannelGroup, Layout, channel_layout
from fedunlearn.channels.mask import ChannelMask, channel_quota, votes
from fedunlearn.channels.packing import Portion, pack
from fedunlearn.errors import SettingsError

LAYOUT = Layout(
    (
        ChannelGroup("conv", 4, ("conv.weight", "norm.weight"), ("norm.running_mean",), "norm", 1),
        ChannelGroup("hidden", 6, ("hidden.weight", "hidden.bias"), (), "hidden", -1),
    ),
    ("output.weight", "output.bias"),
    "output",
)


def mask_of(conv: list[int], hidden: list[int]) -> ChannelMask:
    return ChannelMask(
        {"conv": torch.tensor(conv, dtype=torch.int64), "hidden": torch.tensor(hidden, dtype=torch.int64)}
    )


masks = st.builds(
    lambda conv, hidden: mask_of(sorted(conv), sorted(hidden)),
    st.sets(st.integers(0, 3)),
    st.sets(st.integers(0, 5)),
)


def pairs(mask: ChannelMask) -> set[tuple[str, int]]:
    return {(layer, channel) for layer, channels in mask.selected.items() for channel in channels.tolist()}


@given(masks)
def test_arrays_round_trip(mask: ChannelMask) -> None:
    arrays = mask.to_arrays()
    assert all(array.dtype == np.int32 for array in arrays.values())
    again = ChannelMask.from_arrays(arrays)
    assert again == mask and again.digest() == mask.digest() and hash(again) == hash(mask)


@given(st.lists(masks, min_size=1, max_size=4))
def test_union_is_the_set_union(several: list[ChannelMask]) -> None:
    union = ChannelMask.union(several)
    assert pairs(union) == set().union(*(pairs(mask) for mask in several))
    assert ChannelMask.union([union, *several]) == union


@given(masks, masks)
def test_masks_are_equal_exactly_when_they_select_the_same(one: ChannelMask, other: ChannelMask) -> None:
    same = pairs(one) == pairs(other)
    assert (one == other) is same and (one.digest() == other.digest()) is same


@given(masks)
def test_ratio_and_portion_count_the_selected(mask: ChannelMask) -> None:
    assert mask.ratio(LAYOUT) == pytest.approx(len(pairs(mask)) / 10)
    portion = mask.portion(LAYOUT)
    expected = {"output.weight", "output.bias"}
    for group in LAYOUT.groups:
        if len(mask.selected[group.layer]):
            expected |= {*group.parameters, *group.buffers}
    assert portion.rows.keys() == expected
    assert portion.rows["output.weight"] is None
    assert mask.portion(LAYOUT, output=False).rows.keys() == expected - {"output.weight", "output.bias"}
    if len(mask.selected["conv"]):
        assert torch.equal(portion.rows["norm.running_mean"], mask.selected["conv"])


@given(masks, st.floats(0, 1), st.integers(0, 99))
def test_cutting_back_keeps_the_best_of_the_selected(mask: ChannelMask, ratio: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = {group.layer: torch.rand(group.channels, generator=generator) for group in LAYOUT.groups}
    cut = mask.cut_back(scores, ratio, LAYOUT)
    assert pairs(cut) <= pairs(mask)
    for group in LAYOUT.groups:
        kept, all_of = cut.selected[group.layer], mask.selected[group.layer]
        assert len(kept) == min(len(all_of), channel_quota(ratio, group.layer, group.channels))
        dropped = sorted(set(all_of.tolist()) - set(kept.tolist()))
        if len(kept) and dropped:
            assert scores[group.layer][kept].min() >= scores[group.layer][dropped].max()


def test_votes_count_masks() -> None:
    counts = votes([mask_of([0, 1], []), mask_of([1], [5])], LAYOUT)
    assert counts["conv"].tolist() == [1, 2, 0, 0] and counts["hidden"].tolist() == [0, 0, 0, 0, 0, 1]
    union = ChannelMask.union([mask_of([0, 1], []), mask_of([1], [5])])
    assert union.cut_back(counts, {"conv": 0.25}, LAYOUT) == mask_of([1], [])


@pytest.mark.parametrize(
    ("ratio", "channels", "quota"),
    [(0.1, 30, 3), (0.3, 10, 3), (0.31, 10, 4), (0, 8, 0), (1, 8, 8), (0.01, 8, 1)],
)
def test_the_quota_is_the_ceiling_without_floating_point_surprises(ratio: float, channels: int, quota: int) -> None:
    assert channel_quota(ratio, "conv", channels) == quota


def test_empty_and_full() -> None:
    assert ChannelMask.empty(LAYOUT).ratio(LAYOUT) == 0 and ChannelMask.full(LAYOUT).ratio(LAYOUT) == 1
    assert ChannelMask.empty(LAYOUT) == ChannelMask({}) and ChannelMask.empty(LAYOUT).count() == 0
    assert ChannelMask.empty(LAYOUT).portion(LAYOUT) == Portion({"output.weight": None, "output.bias": None})


@pytest.mark.parametrize("name", ["lenet", "group-norm", "batch-norm", "shared", "resnet18"])
def test_the_full_mask_of_a_convolutional_network_packs_every_parameter(build, name: str) -> None:
    case = build(name)
    layout = channel_layout(case.model, case.inputs)
    state = case.model.state_dict()
    packed = pack(state, ChannelMask.full(layout).portion(layout))
    expected = {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
    assert packed.keys() == expected.keys()
    assert all(np.array_equal(packed[key], tensor.numpy()) for key, tensor in expected.items())


@pytest.mark.parametrize(
    ("mask", "sentence"),
    [
        (ChannelMask({"stem": torch.tensor([0])}), "layer stem, which has no channels"),
        (mask_of([4], []), "channel 4 of layer conv, which has 4"),
    ],
)
def test_a_mask_of_another_network_is_refused(mask: ChannelMask, sentence: str) -> None:
    for use in (mask.validate, mask.portion, mask.ratio, lambda layout: votes([mask], layout)):
        with pytest.raises(SettingsError, match=sentence):
            use(LAYOUT)


@pytest.mark.parametrize(
    "array", [np.array([1, 0]), np.array([-1]), np.array([0.0]), np.zeros((1, 1), np.int32), np.array([2, 2])]
)
def test_damaged_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(SettingsError, match="layer conv"):
        ChannelMask.from_arrays({"conv": array})


def test_wrong_ratios_and_scores_are_refused() -> None:
    full = ChannelMask.full(LAYOUT)
    for ratio in (-0.1, 1.1, float("nan")):
        with pytest.raises(SettingsError, match="between 0 and 1"):
            full.cut_back({}, ratio, LAYOUT)
    with pytest.raises(SettingsError, match="one score for each of its 4 channels"):
        full.cut_back({"conv": torch.zeros(3)}, 0.5, LAYOUT)
