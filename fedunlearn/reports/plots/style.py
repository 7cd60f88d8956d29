"""How models look in every picture: colour-blind-safe colours (Okabe and Ito 2008), and a marker each."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

WIDTH = 9.0
DOTS_PER_INCH = 150
GRID = "#d9d9d9"
TEXT = "#222222"
MUTED = "#666666"
REFERENCE = "#0072B2"


@dataclass(frozen=True)
class Look:
    """Colour, marker and line of one model."""

    colour: str
    marker: str
    line: str | tuple[float, tuple[float, ...]]
    width: float


OURS = "selective-channels"
"""The method that looks as the unlearned model does where none is called so."""

_KNOWN = {
    "original": Look("#555555", "o", "-", 2.0),
    "unlearned": Look("#D55E00", "D", "-", 3.0),
    "retrained": Look(REFERENCE, "s", "-", 2.2),
    "fine-tuned": Look("#009E73", "^", "--", 2.0),
    "retrained-same-budget": Look("#56B4E9", "v", "--", 2.0),
}
# Of lengths without a common divisor: 63 models before a pair of colour and marker comes again.
_CONTROL_COLOURS = ("#CC79A7", "#B08800", "#7F7F7F", "#8C564B", "#9467BD", "#1B7837", "#2166AC")
_CONTROL_MARKERS = ("P", "X", "<", ">", "*", "h", "p", "d", "8")


def looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for each model; controls get theirs in the order in which they come."""
    names = list(names)
    known = dict(_KNOWN)
    if "unlearned" not in names:
        known[OURS] = known["unlearned"]
    result: dict[str, Look] = {}
    controls = 0
    for name in names:
        if name in known:
            result[name] = known[name]
            continue
        colour = _CONTROL_COLOURS[controls % len(_CONTROL_COLOURS)]
        marker = _CONTROL_MARKERS[controls % len(_CONTROL_MARKERS)]
        result[name] = Look(colour, marker, (0, (2, 1.5)), 1.6)
        controls += 1
    return result


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty white figure, sizes in inches; it belongs to nobody and to no global state."""
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Axes, grid: Literal["x", "y"] = "y") -> None:
    """Light grid, no box, readable ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=TEXT, labelsize=10)
    axes.grid(True, axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def png(figure: Figure) -> bytes:
    """The figure as PNG of at most 256 colours, a third of the size; equal figures give equal bytes."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
    return small.getvalue()
