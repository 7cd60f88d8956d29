"""A benchmark's pictures: what is drawn, and which models are on the front."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fedunlearn.reports.aggregate import CellAggregate, aggregate
from fedunlearn.reports.benchmark_figures import NEAR, distance_by_round, pareto_front, trade_off


@pytest.fixture
def cell(document: dict[str, Any]) -> CellAggregate:
    copy = json.loads(json.dumps(document))
    copy["models"]["unlearned"]["backdoor_success"] = 0.112
    return aggregate([{"cell": "x", "seed": 0, **document}, {"cell": "x", "seed": 1, **copy}])[0]


def test_every_model_but_the_original_has_a_line_of_its_mean_distances(cell: CellAggregate) -> None:
    figure = distance_by_round(cell)
    assert figure is not None
    lines = {str(line.get_label()): line for line in figure.axes[0].get_lines()}
    assert {"Unlearned", "Retrained", "Fine-tuned only", "Before the request"} <= set(lines)
    assert "Original" not in lines
    assert list(lines["Unlearned"].get_xdata()) == [1, 2, 3]
    drawn = [cell.curves["unlearned"][number].mean for number in (1, 2, 3)]
    assert list(lines["Unlearned"].get_ydata()) == pytest.approx(drawn)


def test_the_trade_off_shows_epochs_and_bytes_of_every_model(cell: CellAggregate) -> None:
    figure = trade_off(cell)
    assert figure is not None
    assert [axes.get_xlabel() for axes in figure.axes] == ["Client epochs", "Bytes both ways"]
    for axes, price in zip(figure.axes, (3.0, 390_000), strict=True):
        marks = {bars.get_label(): bars for bars in axes.containers}
        assert set(marks) >= {"Unlearned", "Retrained", "Zeroed output unit"}
        x, y = (float(data[0]) for data in marks["Unlearned"].lines[0].get_data())
        assert x == pytest.approx(price)
        distance = cell.models["unlearned"].distance
        assert distance is not None and distance.deviation and y == pytest.approx(distance.mean)
        left, right = axes.get_xlim()
        assert left < 0 < x < right, "what costs nothing must be inside"


def test_the_pareto_front_holds_what_no_other_beats() -> None:
    points = {
        "dear": (30.0, 0.0),
        "good": (3.0, 0.01),
        "beaten": (3.0, 0.2),
        "free": (0.0, 0.3),
        "bad": (9.0, 0.4),
    }
    assert pareto_front(points) == ["free", "good", "dear"]
    assert pareto_front({"one": (1.0, 1.0), "same": (1.0, 1.0)}) == ["one", "same"]


def test_without_rounds_or_a_retrained_model_nothing_is_drawn(document: dict[str, Any]) -> None:
    document["rounds"] = {}
    document["models"].pop("retrained")
    (cell,) = aggregate([{"cell": "", "seed": 0, **document}])
    assert distance_by_round(cell) is None
    assert trade_off(cell) is None


def test_many_models_are_listed_from_far_to_near_with_the_numbers_of_the_picture(document: dict[str, Any]) -> None:
    original, retrained = (document["models"][name] for name in ("original", "retrained"))
    models: dict[str, Any] = {"original": original, "retrained": retrained}
    for number in range(25):
        cost = {
            **original["cost"],
            "client_epochs": 3,
            "bytes_up": 1000 + 10 * number,
            "bytes_down": 1000,
        }
        # From a thousandth to a half: what is far apart on the picture's axis lies close on an even one.
        less = {
            key: retrained[key] - 0.001 * 1.3**number
            for key in retrained
            if key.endswith("_accuracy") and retrained[key]
        }
        models[f"method-{number}"] = {**retrained, **less, "cost": cost}
    models["retrained-band-1"] = {**retrained, "test_accuracy": 0.93}
    (cell,) = aggregate([{"cell": "", "seed": 0, "models": models, "rounds": {}, "band": ["retrained-band-1"]}])
    figure = trade_off(cell)
    assert figure is not None
    (legend,) = figure.legends
    listed = [text.get_text() for text in legend.get_texts()]
    assert (
        listed[0] == "1  Method 24"
        and listed[25] == "26  Retrained"
        and listed[26] == "as far as other retrained models"
    )
    shown = {axes.get_xlabel(): [text.get_text() for text in axes.texts] for axes in figure.axes}
    for told in shown.values():
        numbers = [number for text in told for number in numbers_in(text)]
        assert sorted(numbers) == list(range(1, 27)), "each number once, alone or in a range"
    far = sorted(
        (one.distance.mean for name, one in cell.models.items() if name != "original" and one.distance), reverse=True
    )
    for axes in figure.axes:
        for text in axes.texts:
            heights = [axes.transData.transform((0, far[number - 1]))[1] for number in numbers_in(text.get_text())]
            assert max(heights) - min(heights) < 2 * NEAR, "in one row stand marks that lie together"
    looks = {(line.get_color(), line.get_marker()) for line in legend.legend_handles if hasattr(line, "get_marker")}  # type: ignore[union-attr]
    assert len(looks) == 26, "no two look alike"


def test_long_names_stay_inside_the_picture(document: dict[str, Any]) -> None:
    original, retrained = (document["models"][name] for name in ("original", "retrained"))
    long = {f"a method of one's own with a long name {number}": retrained for number in range(3)}
    models: dict[str, Any] = {"original": original, "retrained": retrained, **long}
    (cell,) = aggregate([{"cell": "", "seed": 0, "models": models, "rounds": {}}])
    figure = trade_off(cell)
    assert figure is not None
    figure.draw_without_rendering()
    (legend,) = figure.legends
    extent = legend.get_window_extent()
    assert extent.x0 >= 0 and extent.x1 <= figure.bbox.width
    assert len(legend.get_texts()) == len(models) - 1, "all but the original, which costs nothing"


def numbers_in(text: str) -> list[int]:
    """ "3, 5–7" -> 3, 5, 6, 7."""
    found = []
    for part in text.split(", "):
        first, _, last = part.partition("–")
        found += range(int(first), int(last or first) + 1)
    return found
