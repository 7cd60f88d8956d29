from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from fedunlearn.audit import score_attack
from fedunlearn.audit.metric import Gathered, Sizes
from fedunlearn.audit.score_attack import binning_bound, matching_positions, nonmembers, score_bins, values_of
from fedunlearn.audit.subject import Subject

EDGES = (-1.0, 0.0, 1.0)
scores = st.lists(st.floats(-3, 3, width=16), min_size=1, max_size=40)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_bins_hold_their_lower_edge() -> None:
    found = torch.tensor([-5.0, -1.0, -0.5, 0.0, 0.99, 1.0, 9.0, torch.inf, -torch.inf, torch.nan])
    assert score_bins(found, EDGES) == [3, 2, 2, 3]


@given(scores, scores)
def test_the_binned_area_is_within_its_bound_of_the_exact_one(members: list[float], others: list[float]) -> None:
    truth = [1] * len(members) + [0] * len(others)
    exact = roc_auc_score(truth, members + others)
    inside, outside = (score_bins(torch.tensor(one, dtype=torch.float64), EDGES) for one in (members, others))
    values = values_of("x", inside, outside)
    assert values["x"].value is not None
    assert abs(values["x"].value - exact) <= binning_bound(inside, outside) + 1e-12
    assert values["x.two_sided"].value == max(values["x"].value, 1 - values["x"].value)
    assert values["x"].of == min(len(members), len(others))


@given(
    st.lists(st.integers(0, 4), max_size=60),
    st.lists(st.integers(0, 20), min_size=5, max_size=5),
)
def test_matching_samples_have_the_wanted_proportions(labels: list[int], wanted: list[int]) -> None:
    chosen = matching_positions(torch.tensor(labels, dtype=torch.int64), wanted, generator())
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    taken = np.bincount(np.asarray(labels, dtype=int)[chosen.numpy()], minlength=5)
    there = np.bincount(labels, minlength=5) if labels else np.zeros(5, int)
    usable = [k for k in range(5) if wanted[k] and there[k]]
    assert (taken <= there).all() and not taken[[k for k in range(5) if k not in usable]].any()
    if usable:
        share = min(there[k] / wanted[k] for k in usable)
        assert all(abs(taken[k] - share * wanted[k]) <= 0.5 for k in usable)


def test_unseen_samples_count_in_proportion_and_by_what_they_are_worth() -> None:
    server = {"unseen": [10, 0, 0, 40]}  # class 0 always scores low, class 1 high
    even = nonmembers(Gathered(Sizes(2), server=server), 2, [10, 40])
    assert even == pytest.approx([10, 40])
    skewed = nonmembers(Gathered(Sizes(2), server=server), 2, [50, 50])
    worth = 100**2 / (50**2 / 10 + 50**2 / 40)
    assert skewed == pytest.approx([worth / 2, worth / 2]) and worth == 32
    own = {3: {"members": [1], "outside": [20, 4]}}
    assert nonmembers(Gathered(Sizes(2), own, server=server), 2, [50, 50]) == pytest.approx([36, 20])
    assert nonmembers(Gathered(Sizes(2), own), 2, [50, 50]) == [20, 4]
    assert nonmembers(Gathered(Sizes(2)), 2, [50, 50]) is None


def test_planted_samples_are_no_members_here(target: Subject) -> None:
    parts = np.array(["ordinary"] * 150 + ["triggered"] * 50)
    seen = []

    def score(samples):
        seen.append(len(samples))
        return torch.arange(len(samples), dtype=torch.float64)

    found = score_attack.measure(replace(target, parts=parts), score, (150.0,), generator())
    assert found["members"] == [150, 0] and sum(found["total"]) == 150  # type: ignore[arg-type]
    assert seen == [200, 100]


def test_small_groups_are_withheld(target: Subject) -> None:
    def score(samples):
        return torch.zeros(len(samples))

    few = replace(target, parts=np.array(["ordinary"] * 19 + ["canaries"] * 181))
    assert score_attack.measure(few, score, EDGES, generator()) == {}
    without = replace(target, held_out=target.held_out.take(np.arange(19)))
    assert set(score_attack.measure(without, score, EDGES, generator())) == {"members", "total"}


def test_the_server_bins_class_by_class(server: Subject) -> None:
    def score(samples):
        return samples.labels.double()

    found = score_attack.measure(server, score, tuple(range(1, 10)), generator())["unseen"]
    counts = server.held_out.labels.bincount(minlength=10)
    assert torch.equal(torch.tensor(found).reshape(10, 10), torch.diag(counts))


def test_what_is_lacking_is_said() -> None:
    values = score_attack.combine("x", Gathered(Sizes(2), {0: {}}, server={"unseen": [1, 1, 1, 1]}), 2)
    assert set(values) == set(score_attack.value_names("x"))
    assert all("20 ordinary samples" in value.refused for value in values.values())
    lonely = Gathered(Sizes(2), {0: {"members": [20, 5], "total": [25, 0]}}, server={"unseen": [0, 0, 9, 9]})
    assert "unseen samples of the classes" in score_attack.combine("x", lonely, 2)["x"].refused


def test_targets_are_joined() -> None:
    target = {0: {"members": [20, 5], "total": [25, 0]}, 1: {"members": [0, 25], "total": [0, 25]}}
    gathered = Gathered(Sizes(2), target, server={"unseen": [50, 0, 0, 50]})
    values = score_attack.combine("x", gathered, 2)
    # 0.6 of the members are in the upper bin, where half of the others are.
    assert values["x"].value == pytest.approx(0.6 * 0.5 + 0.5 * (0.6 * 0.5 + 0.4 * 0.5))
