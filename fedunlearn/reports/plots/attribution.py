"""Heat map of the attribution, layer by layer: what the forgotten data uses, what everybody else uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from fedunlearn.reports.document import Document
from fedunlearn.reports.plots.style import TEXT, new_figure

MOST_LAYERS = 24
HIGHEST = 4.0
STEPS = 32
SELECTED = "#D55E00"


def attribution_map(document: Document) -> Figure | None:
    """Two strips a layer, in multiples of the layer's mean, with the selected channels marked above.

    Channels are ordered by how much more the forgotten data uses them than the others do. Layers beyond the
    24th are left out.
    """
    layers = layers_of(document)
    if not layers:
        return None
    shown = list(layers.items())[:MOST_LAYERS]
    figure = new_figure(1.25 + 0.84 * len(shown))
    grid = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    colours = colormaps["cividis"].resampled(STEPS)
    norm = PowerNorm(0.6, vmin=0.0, vmax=HIGHEST, clip=True)
    image: AxesImage | None = None
    for axes, (name, (forget, reference, selected)) in zip(grid, shown, strict=True):
        order = np.argsort(-(forget - reference), kind="stable")
        strips = np.stack([forget[order], reference[order]])
        image = axes.imshow(strips, aspect="auto", cmap=colours, norm=norm, interpolation="nearest")
        _mark(axes, np.flatnonzero(np.isin(order, selected)), len(order))
        count = f"{len(selected)} of {len(forget)}"
        axes.set_title(f"{name}: {count} channels selected", loc="left", fontsize=10, color=TEXT, pad=13)
        axes.set_yticks([0, 1], ["forgotten data", "everybody else"], fontsize=9)
        axes.set_xticks([])
        axes.tick_params(length=0, colors=TEXT)
        axes.spines[:].set_visible(False)
    assert image is not None
    grid[-1].set_xlabel(
        "channels, those that the forgotten data uses more than the others first; ▼ = selected",
        fontsize=10,
        color=TEXT,
    )
    bar = figure.colorbar(image, ax=list(grid), fraction=0.025, pad=0.015, ticks=[0, 0.5, 1, 2, 4])
    bar.ax.set_yticklabels(["0", "½", "1", "2", "4 or more"])
    bar.set_label("use, as a multiple of\nthe layer's mean", fontsize=9, color=TEXT)
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def layers_of(document: Document) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Layer -> forget and reference attribution as multiples of their mean, and the selected indices."""
    layers = document.get("attribution")
    found: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    for name, layer in (layers if isinstance(layers, Mapping) else {}).items():
        if not isinstance(layer, Mapping) or not layer.get("forget") or not layer.get("reference"):
            continue
        forget, reference = _multiples(layer["forget"]), _multiples(layer["reference"])
        if forget.shape == reference.shape:
            found[str(name)] = (forget, reference, np.asarray(layer.get("selected") or [], dtype=np.int64))
    return found


def _multiples(scores: Any) -> np.ndarray:
    array = np.nan_to_num(np.asarray([0.0 if score is None else score for score in scores], dtype=float))
    mean = float(array.mean())
    return array / mean if mean > 0 else array


def _mark(axes: Axes, places: np.ndarray, channels: int) -> None:
    if len(places):  # a line without points, unclipped, would break the layout
        axes.plot(
            places,
            np.full(len(places), -0.66),
            marker="v",
            linestyle="none",
            color=SELECTED,
            markersize=float(np.clip(340 / channels, 1.5, 6)),
            clip_on=False,
        )
    axes.set_xlim(-0.5, channels - 0.5)
    axes.set_ylim(1.5, -0.5)
