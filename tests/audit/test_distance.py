from __future__ import annotations

import math

import pytest

from fedunlearn.audit.distance import distance, gap, share_of_the_way


def test_signed_gaps_and_their_mean_size() -> None:
    result = distance(
        {"test_accuracy": 0.90, "backdoor_success": 0.05, "membership_auc": None},
        {"test_accuracy": 0.94, "backdoor_success": 0.01, "membership_auc": 0.5},
        ["test_accuracy", "backdoor_success", "membership_auc", "canary_exposure"],
    )
    assert result.gaps["test_accuracy"] == pytest.approx(-0.04)
    assert result.gaps["backdoor_success"] == pytest.approx(0.04)
    assert result.gaps["membership_auc"] is None and result.gaps["canary_exposure"] is None
    assert result.mean_absolute == pytest.approx(0.04)


def test_the_retrained_model_is_at_distance_zero() -> None:
    values = {"a": 0.3, "b": 0.7}
    assert distance(values, values, ["a", "b"]).mean_absolute == 0.0


def test_nothing_known_is_not_zero() -> None:
    assert distance({}, {}, ["a"]).mean_absolute is None
    assert gap(math.nan, 1.0) is None and gap(1.0, math.inf) is None


def test_share_of_the_way() -> None:
    assert share_of_the_way(0.2, 0.6, 1.0) == pytest.approx(0.5)
    assert share_of_the_way(0.9, 0.9, 0.1) == 0.0
    assert share_of_the_way(0.9, 0.1, 0.1) == pytest.approx(1.0)
    assert share_of_the_way(0.5, 0.9, 0.7) == pytest.approx(2.0)
    assert share_of_the_way(0.5, 0.4, 0.5) is None
    assert share_of_the_way(None, 0.4, 0.5) is None
    assert share_of_the_way(0.50, 0.4, 0.52, least=0.05) is None
