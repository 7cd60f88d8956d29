"""Gap left to the retrained model, over seeds: one panel a cell of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fedunlearn.reports.document import label_of
from fedunlearn.reports.plots.style import MUTED, REFERENCE, TEXT, looks, new_figure, tidy


def gaps(cells: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Figure | None:
    """A row a model: a dot a seed, a bar at the mean; None where nothing can tell.

    Args:
        cells: cell -> model -> {"mean", "values"} of the gap left, 0 (as retrained) to 1 (as before).
    """
    shown = {
        cell: {model: found for model, found in models.items() if model not in ("original", "retrained")}
        for cell, models in cells.items()
    }
    shown = {cell: models for cell, models in shown.items() if models}
    if not shown:
        return None
    columns = 1 if len(shown) == 1 else 2
    lines = -(-len(shown) // columns)
    most = max(len(models) for models in shown.values())
    figure = new_figure(0.8 + lines * (0.7 + 0.36 * most))
    grid = figure.subplots(lines, columns, sharex=True, squeeze=False).flatten()
    for axes, (cell, models) in zip(grid, shown.items(), strict=False):
        styles = looks(models)
        for place, (model, found) in enumerate(models.items()):
            look = styles[model]
            values = [number for number in found["values"] if number is not None]
            axes.plot(
                values, [place] * len(values), "o", color=look.colour, alpha=0.55, markersize=6, clip_on=False
            )
            axes.plot(found["mean"], place, marker="|", color=look.colour, markersize=18, markeredgewidth=3.5)
        axes.set_yticks(range(len(models)), [label_of(model) for model in models])
        axes.set_ylim(len(models) - 0.4, -0.6)
        axes.set_xlim(0, 1.02)
        tidy(axes, "x")
        axes.tick_params(axis="x", labelbottom=True)
        axes.axvline(0, color=REFERENCE, linewidth=4)
        axes.axvline(0.5, color=MUTED, linewidth=1, linestyle=":")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_title(cell, loc="left", fontsize=11, fontweight="bold", color=TEXT)
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    figure.supxlabel(
        "gap left (0% = as retrained, 100% = as before); bar: mean, dot: one seed", fontsize=10, color=TEXT
    )
    return figure
