from __future__ import annotations

from typing import Any

import pytest

from fedunlearn.reports.plots.forgetting import forgetting
from fedunlearn.reports.plots.style import png


def test_markers_stand_between_original_and_retrained(comparison: dict[str, Any]) -> None:
    figure = forgetting(comparison)
    assert figure is not None
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert "Back-door success" in labels and "Membership attack" in labels
    ours = [line for line in axes.get_lines() if line.get_marker() == "D"]
    assert len(ours) == len(labels)
    places = dict(zip(labels, (float(line.get_xdata()[0]) for line in ours), strict=True))
    assert abs(places["Back-door success"] - (0.884 - 0.012) / 0.884) < 1e-9
    low, high = axes.get_xlim()
    assert all(low < x < high for line in axes.get_lines() for x in line.get_xdata())


def test_nothing_that_can_tell_is_no_picture(comparison: dict[str, Any]) -> None:
    same = comparison["models"]["retrained"]
    assert forgetting({"models": {"original": same, "unlearned": same, "retrained": same}}) is None
    assert forgetting({"models": {"original": same}}) is None


def test_one_measure_is_enough(recwarn: pytest.WarningsRecorder) -> None:
    models = {name: {"backdoor_success": share} for name, share in (("original", 0.9), ("retrained", 0.0))}
    figure = forgetting({"models": {**models, **{name: {"backdoor_success": 0.3} for name in ["unlearned", "abcd"]}}})
    assert figure is not None and png(figure)
    assert not recwarn.list
