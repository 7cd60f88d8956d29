from __future__ import annotations

from typing import Any

import pytest

from fedunlearn.reports.plots.attribution import MOST_LAYERS, attribution_map, layers_of


def test_scores_become_multiples_of_the_layers_mean() -> None:
    layer = {"forget": [1.0, 3.0, 0.0], "reference": [0.0, 0.0, 0.0], "selected": [1]}
    forget, reference, selected = layers_of({"attribution": {"conv": layer}})["conv"]
    assert forget.tolist() == pytest.approx([0.75, 2.25, 0.0])
    assert reference.tolist() == [0.0, 0.0, 0.0]
    assert selected.tolist() == [1]


def test_layers_that_cannot_be_drawn_are_left_out() -> None:
    layers: dict[str, Any] = {
        "none": None,
        "empty": {"forget": [], "reference": [], "selected": []},
        "uneven": {"forget": [1.0, 2.0], "reference": [1.0], "selected": []},
        "half": {"forget": [1.0], "reference": None, "selected": None},
        "good": {"forget": [1.0, None], "reference": [1.0, 2.0], "selected": None},
    }
    assert list(layers_of({"attribution": layers})) == ["good"]
    assert attribution_map({"attribution": None}) is None


def test_channels_that_the_forgotten_data_uses_more_come_first() -> None:
    layer = {"forget": [1.0, 1.0, 8.0, 2.0], "reference": [3.0, 3.0, 3.0, 3.0], "selected": [2]}
    figure = attribution_map({"attribution": {"conv": layer}})
    assert figure is not None
    axes = figure.axes[0]
    strips = axes.get_images()[0].get_array()
    assert strips is not None
    assert strips[0].tolist() == pytest.approx([8 / 3, 2 / 3, 1 / 3, 1 / 3])
    assert axes.get_lines()[0].get_xdata().tolist() == [0]
    assert axes.get_title(loc="left") == "conv: 1 of 4 channels selected"


def test_a_layer_without_selected_channels_keeps_its_place(recwarn: pytest.WarningsRecorder) -> None:
    layer = {"forget": [1.0, 2.0], "reference": [2.0, 1.0], "selected": []}
    figure = attribution_map({"attribution": {"first": layer, "second": {**layer, "selected": [1]}}})
    assert figure is not None
    figure.canvas.draw()
    first, second = figure.axes[0].get_position(), figure.axes[1].get_position()
    assert first.y0 > second.y1
    assert not recwarn.list


def test_many_layers_are_cut() -> None:
    layer = {"forget": [1.0, 2.0], "reference": [2.0, 1.0], "selected": []}
    figure = attribution_map({"attribution": {f"layer{index}": layer for index in range(40)}})
    assert figure is not None
    assert len(figure.axes) == MOST_LAYERS + 1
