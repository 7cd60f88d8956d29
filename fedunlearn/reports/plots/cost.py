"""Bars of what each model cost after the request."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedunlearn.reports.answer import bytes_moved
from fedunlearn.reports.document import Document, Model, label_of, models_of, value
from fedunlearn.reports.measures import shown
from fedunlearn.reports.plots.style import MUTED, TEXT, looks, new_figure

COSTS: tuple[tuple[str, str, Callable[[Model], float | None]], ...] = (
    ("Passes over the data", "count", lambda model: value(model, "cost.client_epochs")),
    ("Messages both ways", "bytes", bytes_moved),
    ("Time on the clock", "seconds", lambda model: value(model, "cost.seconds")),
)


def cost_bars(document: Document) -> Figure | None:
    """Client epochs, bytes and seconds of every model but the original; None where no cost is known."""
    models = {name: model for name, model in models_of(document).items() if name != "original"}
    panels = [(title, kind, {name: read(model) for name, model in models.items()}) for title, kind, read in COSTS]
    panels = [panel for panel in panels if any(number is not None for number in panel[2].values())]
    if not panels:
        return None
    figure = new_figure(1.0 + 0.42 * len(models))
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, kind, numbers) in zip(grid, panels, strict=True):
        _bars(axes, numbers, kind)
        axes.set_title(title, loc="left", fontsize=11, color=TEXT, fontweight="bold")
    grid[0].set_yticks(range(len(models)), [label_of(name) for name in models], fontsize=11)
    grid[0].invert_yaxis()
    return figure


def _bars(axes: Axes, numbers: dict[str, float | None], kind: str) -> None:
    styles = looks(numbers)
    largest = max((number for number in numbers.values() if number is not None), default=0) or 1
    for place, (name, number) in enumerate(numbers.items()):
        axes.barh(place, number or 0, color=styles[name].colour, height=0.62)
        axes.annotate(
            f" {shown(number, kind)}",
            (number or 0, place),
            va="center",
            fontsize=10,
            color=TEXT if number is not None else MUTED,
            fontweight="bold" if name == "unlearned" else "normal",
        )
    axes.set_xlim(0, 1.38 * largest)
    axes.set_xticks([])
    axes.tick_params(length=0, colors=TEXT)
    axes.spines[:].set_visible(False)
    axes.axvline(0, color=MUTED, linewidth=1)
