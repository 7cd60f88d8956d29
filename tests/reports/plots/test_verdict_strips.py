from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from matplotlib.figure import Figure

from fedunlearn.errors import DataError
from fedunlearn.reports.plots import draw_verdict
from fedunlearn.reports.plots.style import png
from fedunlearn.reports.plots.verdict_strips import verdict_strips

MakeAudit = Callable[..., dict[str, Any]]


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("models", [0, 1, 2, 3, 8, 20])
def test_one_strip_a_metric_and_one_legend(
    make_audit: MakeAudit, models: int, recwarn: pytest.WarningsRecorder
) -> None:
    figure = verdict_strips(make_audit(models=models))
    assert figure is not None and png(figure)
    assert len(figure.axes) == 3 and len(figure.legends) == 1
    assert ("retrained without the data" in legend_of(figure)) == (models > 0)
    assert ("where one more retrained model lies" in legend_of(figure)) == (models > 1)
    assert not recwarn.list


def test_headings_say_what_came_out(make_audit: MakeAudit) -> None:
    figure = verdict_strips(make_audit(loss=0.09))
    assert figure is not None
    said = [(axes.get_title("left"), axes.get_title("right")) for axes in figure.axes]
    assert said[0] == ("Does the planted trigger still work?", "✓ as retrained")
    assert said[1] == ("Is the ordinary data still familiar to it?", "✗ not as retrained")


def test_too_few_models_pass_nothing(make_audit: MakeAudit) -> None:
    audit = make_audit(models=3)
    assert "pass" in {entry["outcome"] for entry in audit["primary"]}
    figure = verdict_strips(audit)
    assert figure is not None
    assert not any("✓" in axes.get_title("right") for axes in figure.axes)


def test_canaries_alone_come_first(make_audit: MakeAudit) -> None:
    figure = verdict_strips(make_audit(models=3, canaries=0.55))
    assert figure is not None and len(figure.axes) == 4
    assert figure.axes[0].get_title("left") == "Does it still know the planted wrong labels?"


def test_no_text_is_cut_off_or_covers_another(make_audit: MakeAudit) -> None:
    for audit in (make_audit(), make_audit(models=2), make_audit(models=3, canaries=0.9), make_audit(accuracy=0.7)):
        figure = verdict_strips(audit)
        assert figure is not None
        figure.canvas.draw()
        width, height = figure.bbox.size
        for axes in figure.axes:
            texts = [*axes.get_xticklabels(), axes.title, axes._left_title, axes._right_title]  # type: ignore[attr-defined]
            boxes = [text.get_window_extent() for text in texts if text.get_text()]
            assert all(box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height for box in boxes)
            assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])


def test_the_picture_is_the_same_bytes_again_and_says_how_to_read_it(make_audit: MakeAudit) -> None:
    first, again = draw_verdict(make_audit()), draw_verdict(make_audit())
    assert first is not None and first == again
    assert first.name == "verdict" and first.caption.endswith(".")


def test_nothing_judged_is_no_picture_and_damage_is_a_sentence(make_audit: MakeAudit) -> None:
    assert draw_verdict({**make_audit(), "primary": []}) is None
    with pytest.raises(DataError, match="backdoor_success"):
        damaged = make_audit()
        damaged["primary"][0]["unlearned"] = 1.7
        draw_verdict(damaged)
