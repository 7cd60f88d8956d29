"""Where each model stands between the original and the retrained one, measure by measure."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fedunlearn.reports.answer import findings
from fedunlearn.reports.document import Document, label_of, models_of
from fedunlearn.reports.measures import shown
from fedunlearn.reports.plots.style import GRID, MUTED, REFERENCE, TEXT, Look, looks, new_figure

LEFT, RIGHT = -0.45, 1.6
EDGE = 0.17


def forgetting(document: Document) -> Figure | None:
    """One line a measure, from "as before" to "as if retrained"; None where nothing can tell."""
    models = models_of(document)
    shown_models = [name for name in models if name not in ("original", "retrained")]
    read = {name: findings(models, name) for name in shown_models}
    measures = {one.measure.key: one for found in read.values() for one in found}
    if not measures:
        return None
    rows = {key: len(measures) - 1 - place for place, key in enumerate(measures)}
    figure = new_figure(2.6 + 0.72 * len(rows))
    axes = figure.add_subplot()
    for key, one in measures.items():
        axes.plot([0, 1], [rows[key]] * 2, color=GRID, linewidth=7, solid_capstyle="round", zorder=1)
        for place, number in ((LEFT, one.original), (RIGHT, one.retrained)):
            _number(axes, place, rows[key], shown(number, one.measure.kind), TEXT)
    for place, head in ((LEFT, "before"), (RIGHT, "retrained")):
        _number(axes, place, len(rows) - 0.35, head, MUTED)
    styles = looks(models)
    for place, name in enumerate(shown_models):
        # Models that stand in the same place stay visible beside each other; ours is on the line itself.
        offset = 0.0 if name == "unlearned" else (0.12 + 0.05 * (place // 2)) * (-1) ** place
        for one in read[name]:
            _dot(axes, one.way, rows[one.measure.key] + offset, styles[name], name == "unlearned")
    axes.axvline(0, color=MUTED, linewidth=1.5)
    axes.axvline(1, color=REFERENCE, linewidth=2.5)
    axes.axvline(0.5, color=MUTED, linewidth=1, linestyle=":")
    axes.set(xlim=(LEFT, RIGHT), ylim=(-0.6, len(rows) - 0.3))
    axes.set_yticks([rows[key] for key in measures], [one.measure.label for one in measures.values()])
    axes.set_xticks([0, 0.5, 1], ["as before\n(original)", "half-way", "as if never there\n(retrained)"])
    axes.tick_params(length=0, colors=TEXT, labelsize=11)
    axes.tick_params(axis="y", pad=14)
    axes.spines[:].set_visible(False)
    figure.legend(
        handles=[_handle(styles[name], label_of(name)) for name in shown_models],
        loc="outside upper center",
        ncols=min(4, len(shown_models)),
        frameon=False,
        fontsize=10,
    )
    return figure


def _number(axes: Axes, place: float, height: float, text: str, colour: str) -> None:
    side = "left" if place == LEFT else "right"
    axes.annotate(text, (place, height), ha=side, va="center", fontsize=10, color=colour)


def _dot(axes: Axes, way: float, row: float, look: Look, ours: bool) -> None:
    """A model's marker; an arrow head at the edge where it lies outside of the picture."""
    inside = min(max(way, LEFT + EDGE), RIGHT - EDGE)
    marker = look.marker if inside == way else "$←$" if way < inside else "$→$"
    axes.plot(
        inside,
        row,
        marker=marker,
        color=look.colour,
        markersize=13 if ours else 9,
        markeredgecolor="white" if inside == way else look.colour,
        markeredgewidth=1.0 if inside == way else 0.3,
        linestyle="none",
        alpha=1.0 if ours else 0.9,
        zorder=4 if ours else 3,
        clip_on=False,
    )


def _handle(look: Look, label: str) -> Line2D:
    return Line2D([], [], linestyle="none", marker=look.marker, color=look.colour, markersize=9, label=label)
