from __future__ import annotations

from typing import Any

from fedunlearn.reports.plots.cost import cost_bars


def test_bars_are_the_costs_after_the_request(comparison: dict[str, Any]) -> None:
    figure = cost_bars(comparison)
    assert figure is not None
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names[:2] == ["Unlearned", "Retrained"] and "Original" not in names
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths[:2] == [3, 30]
    assert [text.get_text().strip() for text in figure.axes[1].texts][:2] == ["390 kB", "8.9 MB"]


def test_unknown_costs_are_not_zero() -> None:
    models = {"unlearned": {"cost": {"seconds": 3.0}}, "retrained": {"cost": {"seconds": None}}}
    figure = cost_bars({"models": models})
    assert figure is not None
    assert len(figure.axes) == 1
    assert [text.get_text().strip() for text in figure.axes[0].texts] == ["3.0 s", "–"]
    assert cost_bars({"models": {"unlearned": {"cost": None}}}) is None
