from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.channels.mask import ChannelMask
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import SettingsError
from fedunlearn.strategies.localisation import check_localisation, class_counts, owned_share, unite
from fedunlearn.strategies.method import ClientReply

counts = st.lists(st.integers(0, 500), min_size=3, max_size=3)


def test_owned_share_by_hand() -> None:
    # 30 of 40 of class 0 and 10 of 100 of class 1 are forgotten.
    share = owned_share(torch.tensor([30.0, 10.0]), np.array([10.0, 90.0], np.float32))
    assert share == pytest.approx((30 * 0.75 + 10 * 0.1) / 40)
    assert owned_share(torch.tensor([5.0, 0.0]), np.zeros(2, np.float32)) == 1.0
    assert owned_share(torch.zeros(2), np.ones(2, np.float32)) == 0.0


@given(counts, counts)
def test_owned_share_is_a_share_and_falls_with_what_others_hold(forgotten: list[int], retained: list[int]) -> None:
    own, others = torch.tensor(forgotten).float(), np.array(retained, np.float32)
    share = owned_share(own, others)
    assert 0 <= share <= 1 + 1e-6
    assert owned_share(own, others + 10) <= share + 1e-6


def test_masks_are_united_and_cut_back_to_their_mean_ratio(place) -> None:
    layout = place.session.architecture.layout
    layer, channels = layout.groups[0].layer, layout.groups[0].channels
    masks = [ChannelMask({layer: torch.tensor(chosen)}) for chosen in ([0, 1, 2, 3], [0, 1])]
    replies = [
        ClientReply(client, "target", mask.to_arrays(), {"num-examples": n})
        for client, (mask, n) in enumerate(zip(masks, (10, 30), strict=True))
    ]
    united = unite(replies, layout)
    # Mean size (4 x 10 + 2 x 30) / 40 = 2.5, so three channels; the two with two votes are among them.
    assert united.selected[layer].tolist()[:2] == [0, 1] and united.count() == 3 <= channels


@pytest.mark.parametrize("ranking", ["random", "least", "forget-only", "ratio"])
def test_a_control_takes_as_many_channels_as_the_method(place, ranking: str) -> None:
    sizes = []
    for options in ({}, {"ranking": ranking}):
        state, _ = place.serve("class-everywhere", UnlearnSettings(rounds=1, options=options))
        assert state.mask is not None
        sizes.append({layer: len(channels) for layer, channels in state.mask.selected.items()})
    assert sizes[0] == sizes[1] and sum(sizes[0].values()) > 0


def test_a_number_is_taken_at_its_word(place) -> None:
    state, _ = place.serve("samples", UnlearnSettings(rounds=1, ratio=0.25))
    assert state.mask is not None
    for group in state.layout.groups:
        assert len(state.mask.selected[group.layer]) == -(-group.channels // 4)


def test_the_reference_holds_a_score_a_channel_and_the_classes_that_are_left(place) -> None:
    state, _ = place.serve("client", UnlearnSettings(rounds=1, ratio=0.5))
    for group in state.layout.groups:
        assert state.arrays[f"reference:{group.layer}"].shape == (group.channels,)
    left = sum(class_counts(place.sites[c].training_samples(), place.sites[c].classes) for c in (0, 2))
    assert state.arrays["classes"].tolist() == left.tolist()


def test_unknown_names_are_refused() -> None:
    with pytest.raises(SettingsError, match="ranking called 'best'"):
        check_localisation(UnlearnSettings(options={"ranking": "best"}))
    with pytest.raises(SettingsError, match="attribution method"):
        check_localisation(UnlearnSettings(options={"attribution": "guess"}))


def test_a_client_with_few_samples_keeps_their_mean_to_itself(place, monkeypatch: pytest.MonkeyPatch) -> None:
    most = max(len(place.sites[c].training_samples()) for c in (0, 2))
    monkeypatch.setattr("fedunlearn.strategies.localisation.MINIMUM_SAMPLES", most)
    _, witness = place.serve("client", UnlearnSettings(rounds=1, ratio=0.5))
    outcome = witness.reports[0].outcome
    assert len(outcome.answers) == 1 and "withholds" in outcome.dropped[0][1]
