from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.channels.layout import Layout
from fedunlearn.channels.mask import ChannelMask
from fedunlearn.channels.selection import excess_totals
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import SettingsError
from fedunlearn.strategies.localisation import (
    FORGET_RATE,
    FORGET_RATES,
    REWINDS,
    TooFewReferences,
    check_localisation,
    class_counts,
    collect_reference,
    influence_of,
    owned_share,
    read_off,
    unite,
)
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


def sizes_of(place, **evidence) -> list[int]:
    """Channels a layer that are read off; half of each layer's channels cover the excess, all of equal weight."""
    layout = place.session.architecture.layout
    reference = {g.layer: torch.ones(g.channels) for g in layout.groups}
    own = {layer: scores.clone() for layer, scores in reference.items()}
    for scores in own.values():
        scores[: len(scores) // 2] = 1.5
    defaults = {"owned": 0.5, "spread": 1.0, "masses": (1e6, 1e6)}
    mask = read_off(influence_of(own, reference, **{**defaults, **evidence}), own, reference, layout)
    return [len(mask.selected[g.layer]) for g in layout.groups] if mask.count() else []


def test_the_ratio_is_read_off(place) -> None:
    channels = [g.channels for g in place.session.architecture.layout.groups]
    covering = sizes_of(place, spread=0.0)
    assert all(0.9 * n / 2 <= size <= n / 2 for size, n in zip(covering, channels, strict=True))
    assert sizes_of(place) == covering
    assert sizes_of(place, masses=(0.0, 0.0)) == channels
    assert sizes_of(place, owned=0.01) == []


def test_what_is_concentrated_counts_for_more_than_whose_the_samples_are(place) -> None:
    assert sizes_of(place, spread=0.0, owned=0.01) == sizes_of(place, spread=0.0, masses=(0.0, 0.0))


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


def test_a_mask_that_is_larger_than_was_asked_for_is_cut_back(place) -> None:
    layout = place.session.architecture.layout
    reply = ClientReply(0, "target", ChannelMask.full(layout).to_arrays(), {"num-examples": 5})
    assert unite([reply], layout, 0.25) == top_quarter(layout)
    assert unite([reply], layout, {"hidden": 0.5}).count() == 32
    assert unite([reply], layout) == ChannelMask.full(layout)


def top_quarter(layout: Layout) -> ChannelMask:
    return ChannelMask({group.layer: torch.arange(-(-group.channels // 4)) for group in layout.groups})


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
    left = sum(class_counts(place.sites[c].training_samples(), place.sites[c].classes) for c in place.staying)
    assert state.arrays["classes"].tolist() == left.tolist()


def test_unknown_names_are_refused() -> None:
    with pytest.raises(SettingsError, match="ranking called 'best'"):
        check_localisation(UnlearnSettings(options={"ranking": "best"}))
    with pytest.raises(SettingsError, match="attribution method"):
        check_localisation(UnlearnSettings(options={"attribution": "guess"}))


def test_a_client_with_few_samples_keeps_their_mean_to_itself(place, monkeypatch: pytest.MonkeyPatch) -> None:
    # Client 0 has also filed requests for a class and for samples, and keeps the fewest.
    kept = sorted(len(place.sites[c].training_samples()) for c in place.staying)
    monkeypatch.setattr("fedunlearn.strategies.localisation.MINIMUM_SAMPLES", kept[0] + 1)
    _, witness = place.serve("client", UnlearnSettings(rounds=1, ratio=0.5))
    outcome = witness.reports[0].outcome
    assert [a.client for a in outcome.answers] == [2, 3, 4] and "withholds" in outcome.dropped[0][1]
    # With one more that withholds, two would be left, and the mean of two shows each the other's.
    monkeypatch.setattr("fedunlearn.strategies.localisation.MINIMUM_SAMPLES", kept[1] + 1)
    with pytest.raises(TooFewReferences, match=r"needs 3 clients .* from \d: use a method that localises nothing"):
        place.serve("client", UnlearnSettings(rounds=1, ratio=0.5))


def test_the_rate_of_the_forget_step_follows_from_how_the_influence_lies(place) -> None:
    layout = place.session.architecture.layout
    reference = {g.layer: torch.ones(g.channels) for g in layout.groups}
    own = {layer: torch.cat([scores[:1] * 3, scores[1:]]) for layer, scores in reference.items()}
    evidence = {"owned": 0.5, "spread": 1.0, "masses": (1e6, 1e6)}
    assert influence_of(own, reference, **evidence) == "spread"
    assert influence_of(own, reference, **{**evidence, "spread": 0.0}) == "concentrated"
    assert influence_of(own, reference, **{**evidence, "masses": (0.1, 0.2)}) == "by-heart"
    assert influence_of(own, reference, **{**evidence, "owned": 0.0}) == "none"
    # Nobody else has its kind: however far the others are from each other, and however strongly it is remembered.
    assert influence_of(own, reference, **{**evidence, "owned": 0.95}) == "concentrated"
    assert influence_of(own, reference, **{**evidence, "owned": 1.0, "masses": (0.1, 0.2)}) == "concentrated"
    assert FORGET_RATES["concentrated"] > FORGET_RATES["by-heart"] > FORGET_RATES["spread"] > FORGET_RATES["none"] == 0
    assert REWINDS["by-heart"] > REWINDS["spread"] > REWINDS["concentrated"] == REWINDS["none"] == 0


def test_a_target_says_the_rate_with_its_mask(place) -> None:
    _, witness = place.serve("client", UnlearnSettings(rounds=1, ratio=0.3))
    said = [
        a.metrics[FORGET_RATE]
        for r in witness.reports
        if r.phase.message == "query.attribute"
        for a in r.outcome.answers
    ]
    assert len(said) == 1 and said[0] in FORGET_RATES.values()


def test_where_everybody_forgets_what_they_retain_is_what_the_forgotten_is_held_against(place) -> None:
    """Without any remaining client nothing is known to be ordinary, and all would seem concentrated."""
    settings = UnlearnSettings(rounds=1, ratio=0.3)
    layout, rng = place.session.architecture.layout, np.random.default_rng(0)
    for role in ("remaining", "target"):
        replies = [
            ClientReply(
                client,
                role,
                {g.layer: rng.random(g.channels, np.float32) for g in layout.groups}
                | {"classes": np.ones(10, np.float32)},
                {"num-examples": 30},
            )
            for client in range(4)
        ]
        found = collect_reference(place.state("client", settings), replies).arrays
        totals = excess_totals(
            [{n: torch.from_numpy(a) for n, a in r.arrays.items() if n != "classes"} for r in replies], [30] * 4
        )
        assert found["spread"][0] == pytest.approx(np.mean(totals) + 1.5 * np.std(totals)) and found["spread"][0] > 0
        assert found["masses"][1] >= found["masses"][0] > 0
