"""Requests that came one after another: what each step left of every deletion so far, and what all of them cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fedunlearn.reports.aggregate import CellAggregate, ModelAggregate
from fedunlearn.reports.document import ordered
from fedunlearn.reports.spread import Spread, shown_spread
from fedunlearn.reports.table import lines_by_model

_WORDS = (
    "Each method goes on from its own model after the request before; retraining starts again, without everything that "
    "was asked for by then. The figures are on the samples of all requests so far."
)
_LAST = "Accuracy on what each request alone made forgotten, measured after the last of them."


def sequence_lines(cells: Sequence[CellAggregate]) -> list[str]:
    """Markdown tables over the steps of each sequence; nothing where no request followed another."""
    wholes: dict[str, list[CellAggregate]] = {}
    for cell in cells:
        if cell.step is not None and cell.models:
            wholes.setdefault(cell.step[0], []).append(cell)
    return [line for whole, steps in wholes.items() for line in _sequence(whole, steps)]


def _sequence(whole: str, steps: Sequence[CellAggregate]) -> list[str]:
    lines = [f"## One request after another{f': {whole}' if whole else ''}", "", _WORDS, ""]
    lines += _over_steps("Mean distance to retrained", steps, lambda model: model.distance)
    lines += _over_steps("Test accuracy", steps, lambda model: model.figures.get("test_accuracy"))
    last = steps[-1]
    if last.deletions:
        heads = [f"request {number}" for number in range(1, len(last.deletions) + 1)]
        rows = {name: [_shown(one.get(name), last) for one in last.deletions] for name in last.models}
        lines += ["### Each deletion, in the end", "", _LAST, "", *lines_by_model(heads, rows), ""]
    return lines


def _over_steps(
    title: str, steps: Sequence[CellAggregate], read: Callable[[ModelAggregate], Spread | None]
) -> list[str]:
    names = ordered({name: {"there": True} for step in steps for name in step.models})
    heads = [f"after {step.step[1]}" for step in steps if step.step is not None]
    rows = {
        name: [_shown(read(step.models[name]), step) if name in step.models else "–" for step in steps]
        for name in names
    }
    return [f"### {title}", "", *lines_by_model(heads, rows), ""]


def _shown(one: Spread | None, step: CellAggregate) -> str:
    return shown_spread(one, "share", len(step.seeds))
