"""The pictures of a report, as PNG."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from fedunlearn.reports.document import Document
from fedunlearn.reports.plots.attribution import attribution_map
from fedunlearn.reports.plots.cost import cost_bars
from fedunlearn.reports.plots.forgetting import forgetting
from fedunlearn.reports.plots.over_rounds import accuracy_over_rounds, distance_over_rounds
from fedunlearn.reports.plots.style import png


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
        "the request. Being right on unseen data should stay high; the trigger should stop working.",
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
