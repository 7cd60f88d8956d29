"""Distances, the way to retraining and shares of its cost, against values worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from fedunlearn.reports.benchmark_measures import (
    cost_shares,
    distance_keys,
    distance_to,
    loss_distances,
    way_to,
    with_classes,
)


def entry(test: float, loss: float, backdoor: float | None = None, **more: Any) -> dict[str, Any]:
    return {
        "test_accuracy": test,
        "backdoor_success": backdoor,
        "forget": {"all": {"accuracy": test, "loss": loss, "count": 30}},
        **more,
    }


def test_the_distance_is_the_mean_size_of_the_differences() -> None:
    retrained, model = entry(0.9, 0.5, 0.0), entry(0.8, 0.1, 0.3)
    keys = distance_keys([retrained, model])
    assert keys == ("test_accuracy", "forget.all.accuracy", "backdoor_success")
    assert distance_to(model, retrained, keys) == pytest.approx((0.1 + 0.1 + 0.3) / 3)
    assert distance_to(retrained, retrained, keys) == 0


def test_losses_and_pooled_audits_are_in_no_mean_and_parts_take_the_place_of_the_whole() -> None:
    forget = {"all": {"accuracy": 0.5, "loss": 1.0}, "triggered": {"accuracy": 0.1, "loss": 2.0}}
    model = {"test_accuracy": 0.9, "probe_accuracy": 0.4, "relearn_steps": 3, "forget": forget}
    assert distance_keys([model]) == ("test_accuracy", "forget.triggered.accuracy")


def test_without_a_retrained_model_there_is_no_distance() -> None:
    model = entry(0.9, 0.5)
    assert distance_to(model, None, ["test_accuracy"]) is None
    assert loss_distances(model, None)["forget.all.loss"] is None
    assert cost_shares(model, None) == {"client_epochs": None, "bytes": None, "seconds": None}


def test_losses_are_compared_by_size() -> None:
    assert loss_distances(entry(0.9, 0.2), entry(0.9, 0.5))["forget.all.loss"] == pytest.approx(0.3)


def test_the_way_is_zero_at_the_original_and_one_at_the_retrained_model() -> None:
    original, retrained = entry(0.9, 0.1), entry(0.9, 0.5)
    for loss, way in ((0.1, 0.0), (0.3, 0.5), (0.5, 1.0), (0.7, 1.5), (0.0, -0.25)):
        assert way_to(original, entry(0.9, loss), retrained)["forget.all.loss"] == pytest.approx(way)


def test_where_original_and_retrained_hardly_differ_there_is_no_way() -> None:
    assert way_to(entry(0.9, 0.1), entry(0.9, 0.2), entry(0.9, 0.14))["forget.all.loss"] is None


def test_costs_are_shares_of_the_retrained_models() -> None:
    model = {"cost": {"client_epochs": 3.0, "bytes_up": 10, "bytes_down": 30, "seconds": 0.0}}
    retrained = {"cost": {"client_epochs": 30.0, "bytes_up": 400, "bytes_down": 400, "seconds": 0.0}}
    # Nothing is a share of nothing.
    assert cost_shares(model, retrained) == {"client_epochs": 0.1, "bytes": 0.05, "seconds": None}


def test_classes_that_were_mostly_held_are_averaged_where_all_of_them_are_known() -> None:
    model = {"test_accuracy_by_class": {"a": 0.5, "b": 0.7, "c": None}}
    assert with_classes(model, ["a", "b"])["mostly_held_classes_accuracy"] == pytest.approx(0.6)
    assert "mostly_held_classes_accuracy" not in with_classes(model, ["a", "c"])
    assert with_classes(model, []) == model
