"""A benchmark's pictures: how fast each model nears the retrained one, and at what price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    NullLocator,
    PercentFormatter,
    SymmetricalLogLocator,
)

from fedunlearn.reports.aggregate import CellAggregate, ModelAggregate
from fedunlearn.reports.document import label_of
from fedunlearn.reports.measures import shown
from fedunlearn.reports.plots.style import GRID, MUTED, REFERENCE, TEXT, Look, looks, new_figure, tidy
from fedunlearn.reports.spread import Spread

FEW = 12
"""Models up to which a legend below the picture is enough to find them in it."""
NEAR = 18.0
"""Pixels within which two marks are one spot for their numbers."""
WITHIN = "as far as other retrained models"
PRICES = (("cost.client_epochs", "Client epochs", "count"), ("cost.bytes", "Bytes both ways", "bytes"))
SMALL = 0.02
"""Mean distance to which the axis is linear; beyond it is logarithmic."""


def distance_by_round(cell: CellAggregate) -> Figure | None:
    """Distance to the finished retrained model against rounds after the request; None without such rounds.

    Lines are means over seeds, bands one standard deviation to both sides.
    """
    curves = {name: curve for name, curve in cell.curves.items() if curve}
    if not curves:
        return None
    figure = new_figure(5.0)
    axes = figure.add_subplot()
    styles = looks(curves)
    for name, curve in curves.items():
        _curve(axes, curve, styles[name], label_of(name))
    if cell.original_distance is not None:
        axes.axhline(cell.original_distance.mean, color=MUTED, linewidth=1.5, linestyle=":", label="Before the request")
    axes.axhline(0, color=REFERENCE, linewidth=2.5)
    _distance_axis(axes)
    axes.set_xlabel("rounds after the request", fontsize=11, color=TEXT)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(figure, axes, cell)
    return figure


def trade_off(cell: CellAggregate) -> Figure | None:
    """Distance to the retrained model against client epochs and against bytes; None where no cost is known.

    Marks are means over seeds, bars one standard deviation to both sides. The line joins the models that no
    other one beats in both (Pareto front). The retrained model itself is at distance 0: the price of that. A grey
    ground is how far further retrained models are from it at most. Many models are listed from the farthest to the
    nearest, with the numbers that they have in the picture.
    """
    models = {name: one for name, one in cell.models.items() if name != "original" and one.distance is not None}
    panels = [
        (title, kind, points)
        for key, title, kind in PRICES
        if (points := {name: (price, one.distance) for name, one in models.items() if (price := _price(one, key))})
    ]
    if not panels:
        return None
    many = len(models) > FEW
    figure = new_figure(max(5.0, 0.9 + 0.24 * len(models)), 12.5) if many else new_figure(5.0)
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    styles = looks(models)
    numbers = _from_far_to_near(models)
    for axes, (title, kind, points) in zip(grid, panels, strict=True):
        means = {name: (price.mean, size.mean) for name, (price, size) in points.items() if size is not None}
        front = pareto_front(means)
        axes.plot(
            [means[name][0] for name in front],
            [means[name][1] for name in front],
            color=MUTED,
            linewidth=1.2,
            drawstyle="steps-post",
            zorder=1,
        )
        for name, (price, size) in points.items():
            assert size is not None
            _mark(axes, price, size, styles[name], label_of(name))
        _price_axis(axes, [price for price, _ in means.values()], kind)
        if cell.band is not None and cell.band.distance is not None:
            label = None if many else WITHIN
            axes.axhspan(0, cell.band.distance.most, color=GRID, alpha=0.6, linewidth=0, zorder=0, label=label)
        axes.set_xlabel(title, fontsize=11, color=TEXT)
        _distance_axis(axes)
        if many:
            _number(axes, means, numbers)
    grid[0].set_ylabel("mean distance to retrained", fontsize=11, color=TEXT)
    for axes in grid[1:]:
        axes.set_ylabel("")
    if many:
        _title(figure, cell)
        _list(figure, styles, numbers, cell.band is not None)
    else:
        _finish(figure, grid[0], cell)
    return figure


def _from_far_to_near(models: Mapping[str, ModelAggregate]) -> dict[str, int]:
    """Model -> its number in the picture, 1 and up, as the list beside it has them from top to bottom."""
    known = {name: one.distance.mean for name, one in models.items() if one.distance is not None}
    order = sorted(known, key=lambda name: -known[name])
    return {name: number for number, name in enumerate(order, start=1)}


def _number(axes: Axes, means: Mapping[str, tuple[float, float]], numbers: Mapping[str, int]) -> None:
    """Small numbers beside the marks; those of marks on one spot stand in one row, and are told once."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # limits and sizes are final only then
    seen = list[tuple[float, float, list[int]]]()
    for name in sorted(means, key=lambda name: numbers[name]):
        x, y = axes.transData.transform(means[name])
        spot = next((one for one in seen if abs(one[0] - x) < NEAR and abs(one[1] - y) < NEAR), None)
        if spot is None:
            seen.append((x, y, [numbers[name]]))
        else:
            spot[2].append(numbers[name])
    for x, y, several in seen:
        place = tuple(axes.transData.inverted().transform((x, y)))
        axes.annotate(
            _ranges(several),
            place,
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=TEXT,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6},
            zorder=5,
        )


def _ranges(numbers: Sequence[int]) -> str:
    """ "3, 5–8" for 3, 5, 6, 7, 8."""
    runs = list[list[int]]()
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(
        f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(str(number) for number in run) for run in runs
    )


def _list(figure: Figure, styles: Mapping[str, Look], numbers: Mapping[str, int], band: bool) -> None:
    handles: list[Artist] = [
        Line2D(
            [],
            [],
            color=styles[name].colour,
            marker=styles[name].marker,
            markersize=8,
            markeredgecolor="white",
            linestyle="none",
            label=f"{number}  {label_of(name)}",
        )
        for name, number in numbers.items()
    ]
    if band:
        handles.append(Patch(color=GRID, alpha=0.6, label=WITHIN))
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=9, labelspacing=0.45)


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The names whose (price, distance) no other point beats: smaller in one and no larger in the other.

    Sorted by price; of equal points all are in it.
    """

    def beaten(name: str) -> bool:
        price, size = points[name]
        return any(p <= price and d <= size and (p, d) != (price, size) for p, d in points.values())

    return sorted((name for name in points if not beaten(name)), key=lambda name: points[name])


def _price(one: ModelAggregate, key: str) -> Spread | None:
    if key != "cost.bytes":
        return one.figures.get(key)
    up, down = one.figures.get("cost.bytes_up"), one.figures.get("cost.bytes_down")
    if up is None or down is None:
        return up or down
    # Both ways are sent together, seed for seed: their deviations add up at most.
    deviation = None if up.deviation is None or down.deviation is None else up.deviation + down.deviation
    return Spread(up.mean + down.mean, deviation, up.least + down.least, up.most + down.most, up.count)


def _curve(axes: Axes, curve: Mapping[int, Spread], look: Look, label: str) -> None:
    numbers = sorted(curve)
    means = [curve[number].mean for number in numbers]
    deviations = [curve[number].deviation or 0.0 for number in numbers]
    axes.plot(
        numbers,
        means,
        color=look.colour,
        linestyle=look.line,
        linewidth=look.width,
        marker=look.marker,
        markersize=6,
        markeredgecolor="white",
        label=label,
        zorder=3,
    )
    low, high = ([m + side * d for m, d in zip(means, deviations, strict=True)] for side in (-1, 1))
    axes.fill_between(numbers, low, high, color=look.colour, alpha=0.15, linewidth=0)


def _mark(axes: Axes, price: Spread, size: Spread, look: Look, label: str) -> None:
    axes.errorbar(
        price.mean,
        size.mean,
        xerr=price.deviation or 0.0,
        yerr=size.deviation or 0.0,
        color=look.colour,
        marker=look.marker,
        markersize=11 if look.width >= 3 else 8,
        markeredgecolor="white",
        linestyle="none",
        elinewidth=1.2,
        label=label,
        zorder=4,
    )


def _price_axis(axes: Axes, prices: list[float], kind: str) -> None:
    """Logarithmic, down to 0 for what costs nothing."""
    positive = [price for price in prices if price > 0]
    if not positive:
        return
    if max(positive) / min(positive) > 3:
        axes.set_xscale("symlog", linthresh=min(positive), linscale=0.3)
        axes.xaxis.set_minor_locator(NullLocator())
        steps = [1] if max(positive) / min(positive) > 300 else [1, 2, 5]
        axes.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=min(positive), subs=steps))
    axes.set_xlim(left=-0.05 * min(positive) if min(prices) == 0 else 0.8 * min(positive), right=1.3 * max(positive))
    # Below the smallest price there is only room for 0.
    least = 0.999 * min(positive)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: "" if 0 < abs(n) < least else shown(n, kind)))


def _distance_axis(axes: Axes) -> None:
    tidy(axes)
    axes.set_ylabel("mean distance to retrained", fontsize=11, color=TEXT)
    top = max(axes.get_ylim()[1], 0.02)
    if top > 5 * SMALL:
        # What is near to retrained is what matters, and would be a line on the floor.
        axes.set_yscale("symlog", linthresh=SMALL, linscale=1.0)
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(FixedLocator([0, SMALL / 2, SMALL, 0.05, 0.1, 0.2, 0.5, 1]))
        axes.set_ylim(bottom=-0.05 * SMALL, top=min(1.05, 1.15 * top))
    else:
        axes.set_ylim(bottom=-0.03 * top, top=min(1.05, top))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _title(figure: Figure, cell: CellAggregate) -> None:
    seeds = f"{len(cell.seeds)} seed{'s' if len(cell.seeds) != 1 else ''}"
    title = f"{cell.cell}, {seeds}" if cell.cell else seeds
    figure.suptitle(f"Distance to the retrained model (0 = the same): {title}", fontsize=12, color=TEXT)


def _finish(figure: Figure, axes: Axes, cell: CellAggregate) -> None:
    _title(figure, cell)
    handles, labels = axes.get_legend_handles_labels()
    for columns in range(min(4, max(1, len(handles))), 0, -1):
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=10)
        if columns == 1 or legend.get_window_extent().width < figure.bbox.width:
            return
        legend.remove()  # names of one's own may be long
