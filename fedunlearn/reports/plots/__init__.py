"""The pictures of a report, as PNG."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from fedunlearn.reports.document import Document
from fedunlearn.reports.plots.attribution import attribution_map
from fedunlearn.reports.plots.cost import cost_bars
from fedunlearn.reports.plots.forgetting import forgetting
from fedunlearn.reports.plots.over_rounds import accuracy_over_rounds, distance_over_rounds
from fedunlearn.reports.plots.style import png
from fedunlearn.reports.plots.verdict_strips import verdict_strips


@dataclass(frozen=True)
class Picture:
    """One drawn picture.

    Attributes:
        name: file name without ".png".
        title: what the picture answers.
        caption: how to read it, for somebody who is not an engineer.
        data: the PNG.
    """

    name: str
    title: str
    caption: str
    data: bytes


_PICTURES: tuple[tuple[str, str, str, Callable[[Document], Figure | None]], ...] = (
    (
        "forgetting",
        "How much is forgotten?",
        "Each line is one way of looking for memory of the data. On the left end the model remembers as "
        "before, on the right end it behaves as if the data had never been there. Left of the dotted line "
        "more than half is still remembered; right of the blue line is forced forgetting, which shows as "
        "well. An arrow: beyond the picture. Only measures that can tell are drawn.",
        forgetting,
    ),
    (
        "distance",
        "How fast does each way get there?",
        "Distance to the model that was retrained from scratch, round by round. The faster a line falls "
        "to the blue line at 0 and stays there, the better.",
        distance_over_rounds,
    ),
    (
        "accuracy",
        "What happens before and after the request?",
        "Left of the dotted line the federation learns. Right of it, each line is one way of answering "
        "the request. Answers to unseen data should stay good (more of them right, or the loss low); what was "
        "planted should stop working.",
        accuracy_over_rounds,
    ),
    (
        "attribution",
        "Where in the model was it?",
        "Each little column is one channel, a part of the model that can be changed by itself; bright "
        "means used much. The channels marked ▼ are used clearly more by the forgotten data than by "
        "everybody else's, and only they were changed.",
        attribution_map,
    ),
    (
        "cost",
        "What did it cost?",
        "Work on the clients, data sent, and time after the request. Shorter is cheaper.",
        cost_bars,
    ),
)


FIGURES = tuple(make for *_, make in _PICTURES)


def draw(document: Document) -> list[Picture]:
    """Every picture that the document has numbers for, in reading order."""
    drawn = ((name, title, caption, make(document)) for name, title, caption, make in _PICTURES)
    return [Picture(name, title, caption, png(figure)) for name, title, caption, figure in drawn if figure is not None]


def draw_verdict(audit: Mapping[str, Any]) -> Picture | None:
    """The strips of an audit; None where nothing was judged. Raises DataError when the document is damaged."""
    figure = verdict_strips(audit)
    if figure is None:
        return None
    return Picture(
        "verdict",
        "What the audit says",
        "One strip for each thing that was fixed beforehand. The blue squares are models retrained without the data: "
        "what forgetting looks like. One more of them would lie in the shaded part (99 times of 100); where the "
        "orange diamond lies outside of it, the audit has failed. It passes where diamond and bar are within the "
        "green brackets. The circle is the model before. Distances on a strip are those that the verdict compares, so "
        "that numbers are not evenly spaced; ‹ and › mean that the shaded part goes on.",
        png(figure),
    )
