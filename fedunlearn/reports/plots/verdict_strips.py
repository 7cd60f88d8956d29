"""A small strip for each judged metric: the band of retrained models, the margin, the original, the unlearned model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea
from matplotlib.patches import Patch

from fedunlearn.reports.metric_words import OUTCOMES, Entry, judged_entries, number, outcome_of, retrained_mean, wording
from fedunlearn.reports.plots.strip import Span, Strip, strip_of
from fedunlearn.reports.plots.style import MUTED, TEXT, WIDTH, looks, new_figure

_LOOKS = looks(("original", "unlearned", "retrained"))
_BAND = "#cfe3f2"
_GOAL = "#00694d"
_OUTCOME_COLOURS = {"good": "#00694d", "fair": "#8a5a00", "bad": "#a4340a"}
_UPPER, _LOWER = 0.4, -0.45
_FOOT = 0.008
_ROW, _STRIP, _BELOW, _LEGEND, _SIDE = 1.5, 0.62, 0.32, 0.68, 0.15
"""Inches: a row with its heading, its strip, room below that for ticks, the legend, the margin on either side."""


def verdict_strips(audit: Mapping[str, Any]) -> Figure | None:
    """The strips of an audit's document, one a metric that its verdict rests on; None where there is none.

    Raises:
        DataError: the document is damaged.
    """
    entries = judged_entries(audit)
    if not entries:
        return None
    strips = [strip_of(entry) for entry in entries]
    height = _LEGEND + _ROW * len(entries)
    figure = new_figure(height)
    # Everything has its place in inches: a layout that is solved for gives up where many rows have long headings.
    figure.set_layout_engine("none")
    for place, (entry, strip) in enumerate(zip(entries, strips, strict=True)):
        bottom = height - _ROW * (place + 1) + _BELOW
        axes = figure.add_axes((_SIDE / WIDTH, bottom / height, 1 - 2 * _SIDE / WIDTH, _STRIP / height))
        _axes(axes, entry, strip)
        _heading(axes, entry)
        _draw(axes, strip)
    handles, labels = _legend(strips)
    figure.legend(
        handles,
        labels,
        loc="lower center",
        ncols=3,
        frameon=False,
        fontsize=10,
        columnspacing=1.5,
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0.2)},
    )
    return figure


def _axes(axes: Axes, entry: Entry, strip: Strip) -> None:
    axes.set(xlim=strip.view, ylim=(-1, 1))
    ticks = strip.ticks()
    axes.set_xticks([place for place, _ in ticks], _tick_labels(entry, [value for _, value in ticks]))
    axes.set_yticks([])
    axes.tick_params(colors=TEXT, labelsize=10, length=3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)


def _tick_labels(entry: Entry, values: Sequence[float]) -> list[str]:
    share = wording(entry).kind == "share"
    return [f"{100 * value:.4g}%" if share else f"{value:.4g}" for value in values]


def _heading(axes: Axes, entry: Entry) -> None:
    """The question and its answer, and below them the numbers in the colours of their marks."""
    tone, sign, words = OUTCOMES[outcome_of(entry)]
    axes.set_title(wording(entry).question, loc="left", fontsize=12, fontweight="bold", color=TEXT, pad=24)
    colour = _OUTCOME_COLOURS[tone]
    axes.set_title(f"{sign} {words}", loc="right", fontsize=12, fontweight="bold", color=colour, pad=24)
    parts = [
        (f"before {number(entry, entry['original'])}", _LOOKS["original"].colour, "normal"),
        (f"now {number(entry, entry['unlearned'])}", _LOOKS["unlearned"].colour, "bold"),
    ]
    mean = retrained_mean(entry)
    if mean is not None:
        word = "chance" if entry.get("alone") else "retrained"
        parts.append((f"{word} {number(entry, mean)}", _LOOKS["retrained"].colour, "normal"))
    texts = [
        TextArea(text, textprops={"color": colour, "fontsize": 11, "fontweight": weight})
        for text, colour, weight in parts
    ]
    name = TextArea(wording(entry).label, textprops={"color": MUTED, "fontsize": 10})
    line = HPacker(children=[*texts, name], pad=0, sep=16, align="baseline")
    box = AnchoredOffsetbox(
        "lower left", child=line, frameon=False, pad=0, borderpad=0.15,
        bbox_to_anchor=(0.0, 1.0), bbox_transform=axes.transAxes,
    )  # fmt: skip
    axes.add_artist(box)


def _draw(axes: Axes, strip: Strip) -> None:
    low, high = strip.view
    original, unlearned, retrained = (_LOOKS[name] for name in ("original", "unlearned", "retrained"))
    if strip.band is not None:
        axes.axvspan(max(low, strip.band[0]), min(high, strip.band[1]), color=_BAND, linewidth=0, zorder=0)
        for end, edge, sign in ((strip.band[0], low, "‹"), (strip.band[1], high, "›")):
            if not low <= end <= high:
                axes.annotate(
                    sign,
                    (edge, 0),
                    ha="left" if edge == low else "right",
                    va="center",
                    color=retrained.colour,
                    fontsize=16,
                )
    if strip.mean is not None:
        axes.axvline(strip.mean, color=retrained.colour, linewidth=1.2, zorder=1)
    if strip.goal is not None:
        _posts(axes, strip.goal, strip.view)
    heights = _heights(strip.retrained, 0.016 * (high - low))
    axes.plot(
        strip.retrained, heights, linestyle="none", marker=retrained.marker, markersize=6, color=retrained.colour,
        markeredgecolor="white", markeredgewidth=0.6, zorder=3, clip_on=False,
    )  # fmt: skip
    if strip.bar is not None:
        ends = max(low, strip.bar[0]), min(high, strip.bar[1])
        axes.plot(ends, (_UPPER, _UPPER), color=unlearned.colour, linewidth=2.5, solid_capstyle="butt", zorder=4)
    axes.plot(
        strip.original, _UPPER, marker=original.marker, markersize=12, markerfacecolor="white",
        markeredgecolor=original.colour, markeredgewidth=2.2, zorder=5, clip_on=False,
    )  # fmt: skip
    axes.plot(
        strip.unlearned, _UPPER, marker=unlearned.marker, markersize=9, color=unlearned.colour,
        markeredgecolor="white", markeredgewidth=0.8, zorder=6, clip_on=False,
    )  # fmt: skip


def _posts(axes: Axes, goal: Span, view: Span) -> None:
    """Two posts with feet towards each other; one that is outside of the view is left out."""
    foot = min(_FOOT * (view[1] - view[0]), 0.4 * (goal[1] - goal[0]))
    for end, inwards in ((goal[0], foot), (goal[1], -foot)):
        if view[0] <= end <= view[1]:
            places, heights = [end + inwards, end, end, end + inwards], [0.93, 0.93, -0.93, -0.93]
            axes.plot(places, heights, color=_GOAL, linewidth=2.0, solid_joinstyle="miter", zorder=2)


def _heights(values: Sequence[float], apart: float) -> list[float]:
    """Heights for marks in the lower half, so that marks at the same place stand on each other."""
    steps = (0.0, 0.22, -0.22, 0.44, -0.44)
    placed: list[tuple[float, int]] = []
    heights = {}
    for index in sorted(range(len(values)), key=lambda index: values[index]):
        near = {step for value, step in placed if abs(value - values[index]) < apart}
        # Where more marks meet than there are steps, they cover each other.
        step = next((step for step in range(len(steps)) if step not in near), len(placed) % len(steps))
        placed.append((values[index], step))
        heights[index] = _LOWER + steps[step]
    return [heights[index] for index in range(len(values))]


def _legend(strips: Sequence[Strip]) -> tuple[list[Any], list[str]]:
    original, unlearned, retrained = (_LOOKS[name] for name in ("original", "unlearned", "retrained"))
    bar = Line2D([], [], color=unlearned.colour, linewidth=2.5)

    def mark(colour: str, marker: str, size: float, face: str | None = None) -> Line2D:
        return Line2D(
            [], [], linestyle="none", marker=marker, markersize=size, color=colour, markerfacecolor=face or colour,
            markeredgewidth=2.0 if face else 0.0,
        )  # fmt: skip

    found: list[tuple[Any, str]] = [
        (mark(original.colour, original.marker, 9, "white"), "before unlearning"),
        (mark(unlearned.colour, unlearned.marker, 8), "now, after unlearning"),
    ]
    if any(strip.bar is not None for strip in strips):
        found[-1] = ((bar, found[-1][0], bar), "now, with what is uncertain")
    if any(strip.retrained for strip in strips):
        found.append((mark(retrained.colour, retrained.marker, 6), "retrained without the data"))
    if any(strip.band is not None for strip in strips):
        found.append((Patch(color=_BAND), "where one more retrained model lies"))
    if any(strip.goal is not None for strip in strips):
        posts = mark(_GOAL, "$[\\;\\,]$", 13)
        found.append((posts, "close enough, if “now” is inside"))
    return [handle for handle, _ in found], [label for _, label in found]
