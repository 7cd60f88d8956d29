from __future__ import annotations

from typing import Any

import pytest

from fedunlearn.reports.plots.over_rounds import accuracy_over_rounds, curve, distance_over_rounds


def test_branches_start_after_the_request(comparison: dict[str, Any]) -> None:
    figure = accuracy_over_rounds(comparison)
    assert figure is not None
    axes = figure.axes[0]
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines["Original"].get_xdata()) == list(range(1, 16))
    assert list(lines["Unlearned"].get_xdata()) == [16, 17, 18]
    assert list(lines["Retrained"].get_xdata()) == list(range(16, 31))
    assert list(lines["Unlearned"].get_ydata()) == [r["test_accuracy"] for r in comparison["rounds"]["unlearned"]]
    assert [text.get_text() for text in axes.texts] == ["deletion request"]


def test_distance_is_to_the_last_retrained_round(comparison: dict[str, Any]) -> None:
    figure = distance_over_rounds(comparison)
    assert figure is not None
    lines = {line.get_label(): line for line in figure.axes[1].get_lines()}
    target = comparison["rounds"]["retrained"][-1]["backdoor_success"]
    expected = [abs(record["backdoor_success"] - target) for record in comparison["rounds"]["unlearned"]]
    assert list(lines["Unlearned"].get_ydata()) == pytest.approx(expected)
    assert lines["Retrained"].get_ydata()[-1] == 0
    assert "Original" not in lines


def test_without_a_retrained_model_there_is_no_distance(comparison: dict[str, Any]) -> None:
    rounds = {name: records for name, records in comparison["rounds"].items() if name != "retrained"}
    assert distance_over_rounds({**comparison, "rounds": rounds}) is None
    assert accuracy_over_rounds({**comparison, "rounds": rounds}) is not None


def test_rounds_without_the_number_are_skipped() -> None:
    records = [{"round": 1, "x": 0.1}, {"round": 2}, {"round": 3, "x": None}, {"round": 4, "x": 0.4}]
    assert curve(records, "x") == ([1, 4], [0.1, 0.4])


def test_one_client_branch_alone_can_be_drawn() -> None:
    rounds = {"retrained": [{"round": 1, "test_accuracy": 0.5}]}
    assert accuracy_over_rounds({"rounds": rounds}) is not None
    assert distance_over_rounds({"rounds": rounds}) is not None
