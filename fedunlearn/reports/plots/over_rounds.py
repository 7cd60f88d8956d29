"""Curves over rounds: what the models can do, and how far they are from the retrained one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fedunlearn.reports.document import Document, label_of, rounds_of, value
from fedunlearn.reports.plots.style import REFERENCE, TEXT, Look, looks, new_figure, tidy

Curve = tuple[list[float], list[float]]


@dataclass(frozen=True)
class Panel:
    """One metric of the rounds."""

    key: str
    title: str
    is_share: bool


PANELS = (
    Panel("test_accuracy", "Right answers on unseen data", True),
    Panel("test_loss", "Loss on unseen data", False),
    Panel("backdoor_success", "Back-door success", True),
    Panel("canary_exposure", "Canary exposure", False),
    Panel("membership_auc", "Membership attack (AUC)", False),
    Panel("forget_loss", "Surprise at the forgotten data (loss)", False),
)

BEFORE_AND_AFTER = ("test_accuracy", "test_loss", "backdoor_success", "canary_exposure")
"""What is followed from the first round on."""


def accuracy_over_rounds(document: Document) -> Figure | None:
    """Test accuracy and planted memory over rounds: first the original, after the request all others."""
    rounds = rounds_of(document)
    panels = _panels(rounds, {name: 0 for name in rounds})
    panels = [panel for panel in panels if panel.key in BEFORE_AND_AFTER]
    if not panels:
        return None
    figure = new_figure(0.6 + 2.7 * len(panels))
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    request = max((record["round"] for record in rounds.get("original", [])), default=0)
    styles = looks(rounds)
    for panel, axes in zip(panels, grid, strict=True):
        for name in rounds:
            start = 0 if name == "original" else request
            numbers, values = curve(rounds[name], panel.key)
            _line(axes, [start + number for number in numbers], values, styles[name], label_of(name))
        if request:
            axes.axvline(request + 0.5, color=TEXT, linewidth=1.2, linestyle=":")
        _finish(axes, panel, zero=False)
    if request:
        _name_the_request(grid[0], request)
    grid[-1].set_xlabel("round", fontsize=11, color=TEXT)
    _legend(figure, grid[0])
    return figure


def _name_the_request(axes: Axes, request: float) -> None:
    axes.annotate(
        "deletion request",
        (request + 0.5, 1.02),
        xycoords=("data", "axes fraction"),
        ha="center",
        va="bottom",
        fontsize=10,
        color=TEXT,
    )


def distance_over_rounds(document: Document) -> Figure | None:
    """How far each model is from the finished retrained one, against rounds after the request."""
    rounds = {name: records for name, records in rounds_of(document).items() if name != "original"}
    targets = {panel.key: _target(rounds, panel.key) for panel in PANELS}
    panels = [panel for panel in _panels(rounds, rounds) if targets[panel.key] is not None]
    if not panels or not rounds:
        return None
    columns = 1 if len(panels) == 1 else 2
    lines = -(-len(panels) // columns)
    figure = new_figure(0.9 + 2.9 * lines)
    grid = figure.subplots(lines, columns, squeeze=False).flatten()
    styles = looks(rounds)
    for panel, axes in zip(panels, grid, strict=False):
        target = targets[panel.key]
        assert target is not None
        for name in rounds:
            numbers, values = curve(rounds[name], panel.key)
            _line(axes, numbers, [abs(v - target) for v in values], styles[name], label_of(name))
        axes.axhline(0, color=REFERENCE, linewidth=2.5)
        axes.set_xlabel("rounds after the request", fontsize=10, color=TEXT)
        _finish(axes, panel, zero=True)
    figure.suptitle("Distance to the retrained model (0 = the same)", fontsize=12, color=TEXT)
    if len(panels) < len(grid):
        grid[-1].set_axis_off()
        grid[-1].legend(*grid[0].get_legend_handles_labels(), loc="center left", frameon=False, fontsize=11)
    else:
        _legend(figure, grid[0])
    return figure


def curve(records: Iterable[Mapping[str, Any]], key: str) -> Curve:
    """Round numbers and values of one metric, without the rounds that lack it."""
    pairs = [(record["round"], found) for record in records if (found := value(record, key)) is not None]
    return [number for number, _ in pairs], [found for _, found in pairs]


def _panels(rounds: Mapping[str, list[Mapping[str, Any]]], names: Iterable[str]) -> list[Panel]:
    wanted = list(names)
    panels = [panel for panel in PANELS if any(curve(rounds[name], panel.key)[0] for name in wanted)]
    # The loss stands for the accuracy where there is none.
    with_accuracy = any(panel.key == "test_accuracy" for panel in panels)
    return [panel for panel in panels if not (with_accuracy and panel.key == "test_loss")]


def _target(rounds: Mapping[str, list[Mapping[str, Any]]], key: str) -> float | None:
    """The retrained model's last value."""
    values = curve(rounds.get("retrained", []), key)[1]
    return values[-1] if values else None


def _line(axes: Axes, numbers: list[float], values: list[float], look: Look, label: str) -> None:
    axes.plot(
        numbers,
        values,
        color=look.colour,
        linestyle=look.line,
        linewidth=look.width,
        marker=look.marker,
        markersize=7 if look.width >= 3 else 5,
        markeredgecolor="white",
        markeredgewidth=0.6,
        label=label,
        zorder=4 if look.width >= 3 else 3,
    )


def _finish(axes: Axes, panel: Panel, zero: bool) -> None:
    tidy(axes)
    axes.set_title(panel.title, loc="left", fontsize=11, color=TEXT, fontweight="bold")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if panel.is_share:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        top = max(axes.get_ylim()[1], 0.02)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]) if not zero else -0.03 * top, top=min(1.05, top))
    elif zero:
        axes.set_ylim(bottom=-0.03 * axes.get_ylim()[1])


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(4, max(1, len(handles))),
        frameon=False,
        fontsize=10,
    )
