"""One aggregate a cell: what counts, what is left out, and the arithmetic over seeds."""

from __future__ import annotations

from typing import Any

import pytest

from fedunlearn.reports.aggregate import aggregate, as_json, stages_of
from fedunlearn.reports.spread import Spread


def entry(test: float, loss: float, epochs: float = 0.0, share_of_bytes: int = 0) -> dict[str, Any]:
    return {
        "test_accuracy": test,
        "test_accuracy_by_class": {"a": test, "b": 0.0},
        "forget": {"all": {"accuracy": test, "loss": loss, "count": 30}},
        "cost": {"client_epochs": epochs, "bytes_up": share_of_bytes, "bytes_down": share_of_bytes},
    }


def document(cell: str, seed: int, unlearned: float, loss: float, **more: Any) -> dict[str, Any]:
    """Original 0.9 and loss 0.1, retrained 0.8 and loss 0.5; the unlearned model as told."""
    return {
        "cell": cell,
        "seed": seed,
        "models": {
            "original": entry(0.9, 0.1),
            "unlearned": entry(unlearned, loss, epochs=3, share_of_bytes=10),
            "retrained": entry(0.8, 0.5, epochs=30, share_of_bytes=400),
        },
        "rounds": {
            "original": [{"round": 1, "test_accuracy": 0.4}, {"round": 2, "test_accuracy": 0.9}],
            "unlearned": [
                {"round": 1, "test_accuracy": 0.7, "forget_accuracy": 0.8},
                {"round": 2, "test_accuracy": unlearned, "forget_accuracy": unlearned},
            ],
            "retrained": [{"round": 1, "test_accuracy": 0.8, "forget_accuracy": 0.6}],
        },
        **more,
    }


@pytest.fixture
def two_seeds() -> list[dict[str, Any]]:
    return [document("first", 0, 0.82, 0.3), document("first", 1, 0.86, 0.5)]


def test_figures_are_means_over_the_seeds_of_a_cell(two_seeds: list[dict[str, Any]]) -> None:
    (cell,) = aggregate(two_seeds)
    unlearned = cell.models["unlearned"]
    found = unlearned.figures["test_accuracy"]
    assert found is not None
    # 0.82 and 0.86: mean 0.84; both 0.02 away, so that the deviation is sqrt(2 x 0.0004 / 1).
    assert (found.mean, found.deviation, found.count) == pytest.approx((0.84, 0.02 * 2**0.5, 2))
    # Distances of test and forget accuracy to 0.8: 0.02 and 0.06.
    assert cell.distance_over == ("test_accuracy", "forget.all.accuracy")
    assert unlearned.distance is not None
    assert (unlearned.distance.mean, unlearned.distance.least) == pytest.approx((0.04, 0.02))
    assert unlearned.figures["backdoor_success"] is None


def test_the_way_is_given_by_seed_and_of_the_means(two_seeds: list[dict[str, Any]]) -> None:
    (cell,) = aggregate(two_seeds)
    # From 0.1 to 0.5: 0.3 is half of the way and 0.5 all of it.
    way = cell.models["unlearned"].way["forget.all.loss"]
    assert way is not None and (way.mean, way.least, way.most) == pytest.approx((0.75, 0.5, 1.0))
    assert cell.models["unlearned"].way_of_means["forget.all.loss"] == pytest.approx(0.75)
    assert cell.models["unlearned"].way_of_means["forget.untriggered.loss"] is None


def test_costs_are_shares_of_retraining(two_seeds: list[dict[str, Any]]) -> None:
    (cell,) = aggregate(two_seeds)
    assert cell.models["unlearned"].cost["client_epochs"] == Spread(0.1, 0.0, 0.1, 0.1, 2)
    assert cell.models["unlearned"].cost["bytes"] == Spread(0.025, 0.0, 0.025, 0.025, 2)


def test_void_seeds_are_named_and_count_nowhere(two_seeds: list[dict[str, Any]]) -> None:
    void = document("first", 2, 0.0, 9.0, void="the back-door did not take.")
    (cell,) = aggregate([*two_seeds, void])
    assert cell.seeds == (0, 1)
    assert cell.void == {2: "the back-door did not take."}
    assert cell.models == aggregate(two_seeds)[0].models
    (nothing,) = aggregate([void])
    assert (nothing.seeds, nothing.models, nothing.curves) == ((), {}, {})


def test_cells_stay_apart_and_in_order() -> None:
    cells = aggregate([document("b", 0, 0.8, 0.5), document("a", 0, 0.7, 0.5), document("b", 1, 0.8, 0.5)])
    assert [(cell.cell, cell.seeds) for cell in cells] == [("b", (0, 1)), ("a", (0,))]


def test_distance_by_round_is_taken_to_the_finished_retrained_model(two_seeds: list[dict[str, Any]]) -> None:
    (cell,) = aggregate(two_seeds)
    # Round 1: |0.7 - 0.8| and |0.8 - 0.8| in both seeds.
    assert cell.curves["unlearned"][1].mean == pytest.approx(0.05)
    assert cell.curves["unlearned"][2].mean == pytest.approx(0.04)
    # The retrained model's own round had |0.8 - 0.8| and |0.6 - 0.8|.
    assert cell.curves["retrained"][1].mean == pytest.approx(0.1)
    assert cell.original_distance is not None
    assert cell.original_distance.mean == pytest.approx(0.1)
    assert "original" not in cell.curves


def test_later_rounds_are_measured_against_the_later_retrained_model() -> None:
    later = {"rounds": 5, "models": {"unlearned": entry(0.7, 0.4), "retrained": entry(0.75, 0.9)}}
    (cell,) = aggregate([document("", 0, 0.8, 0.5, after=later)])
    assert list(cell.after) == [5]
    assert list(cell.after[5]) == ["unlearned", "retrained"]
    unlearned = cell.after[5]["unlearned"]
    assert unlearned.distance is not None and unlearned.distance.mean == pytest.approx(0.05)
    # From the original's 0.1 to the later 0.9, 0.4 is 3/8 of the way.
    way = unlearned.way["forget.all.loss"]
    assert way is not None and way.mean == pytest.approx(0.375)


def test_the_classes_mostly_held_are_the_documents_own() -> None:
    one = document("", 0, 0.8, 0.5, mostly_held_classes=["a", "b"])
    assert stages_of(one)[0]["unlearned"]["mostly_held_classes_accuracy"] == pytest.approx(0.4)
    (cell,) = aggregate([one])
    found = cell.models["original"].figures["mostly_held_classes_accuracy"]
    assert found is not None and found.mean == pytest.approx(0.45)


def test_json_holds_what_is_known_and_nothing_else(two_seeds: list[dict[str, Any]]) -> None:
    content = as_json(aggregate(two_seeds)[0])
    unlearned = content["models"]["unlearned"]
    assert unlearned["figures"]["test_accuracy"]["mean"] == pytest.approx(0.84)
    assert "backdoor_success" not in unlearned["figures"]
    assert unlearned["distance_to_retrained"]["mean"] == pytest.approx(0.04)
    assert content["distance_by_round"]["unlearned"]["1"]["mean"] == pytest.approx(0.05)
    assert content["after"] == {}
