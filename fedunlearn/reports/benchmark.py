"""The tables and the picture of a benchmark: mean and spread over seeds, cell by cell, and how they came about."""

from __future__ import annotations

import csv
import io
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fedunlearn.files import atomic_write_bytes, json_bytes, make_folder
from fedunlearn.reports.document import Document, clean, label_of
from fedunlearn.reports.measures import MEASURES, Measure, shown, shown_gap
from fedunlearn.reports.plots.gaps import gaps
from fedunlearn.reports.plots.style import png
from fedunlearn.reports.spread import summary

_PACKAGES = ("fedunlearn", "torch", "torchvision", "flwr", "flwr-datasets", "captum", "numpy")


def write_benchmark(
    name: str, question: str, documents: Sequence[Mapping[str, Any]], out: Path | str
) -> dict[str, Any]:
    """Write `results.json`, `.csv`, `.md` and `results.png` into `out` and return what `results.json` holds.

    Args:
        name: of the experiment.
        question: what it asks, in a sentence; may be empty.
        documents: one comparison document a cell and seed, each with "cell" and "seed" added.

    Raises:
        RunFolderError: a file cannot be written.
    """
    out = make_folder(Path(out))
    cleaned: list[Document] = [clean(document) for document in documents]
    names = list(dict.fromkeys(str(document.get("cell") or "") for document in cleaned))
    cells = []
    for cell in names:
        own = [document for document in cleaned if str(document.get("cell") or "") == cell]
        cells.append({"cell": cell, **summary(own, [int(document.get("seed") or 0) for document in own])})
    results = {"name": name, "question": question, "cells": cells, "provenance": _provenance(cleaned)}
    atomic_write_bytes(out / "results.json", json_bytes(results))
    atomic_write_bytes(out / "results.csv", _csv_text(cells).encode())
    figure = gaps({cell["cell"] or name: cell["gap_left"] for cell in cells})
    if figure is not None:
        atomic_write_bytes(out / "results.png", png(figure))
    atomic_write_bytes(out / "results.md", markdown(results, figure is not None).encode())
    return results


def markdown(results: Mapping[str, Any], with_picture: bool = False) -> str:
    """The results as Markdown: a table of values and a table of differences to retraining for each cell."""
    lines = [f"# {results['name']}", ""]
    if results["question"]:
        lines += [results["question"], ""]
    lines += [
        "Mean ± standard deviation over the seeds. *Gap left*: mean distance to the retrained model on what can tell, "
        "as a share of the original's distance; 0% is as retrained.",
        "",
    ]
    if with_picture:
        lines += ["![Gap left to the retrained model](results.png)", ""]
    for cell in results["cells"]:
        lines += _cell_lines(cell, results["name"])
    versions = ", ".join(
        f"{package} {number}" for package, number in results["provenance"]["versions"].items()
    )
    lines += ["## How this came about", "", f"{versions}; {results['provenance']['machine']}.", ""]
    return "\n".join(lines)


def _cell_lines(cell: Mapping[str, Any], name: str) -> list[str]:
    seeds = ", ".join(str(seed) for seed in cell["seeds"]) or "none"
    lines = [f"## {cell['cell'] or name}", "", f"Seeds: {seeds}."]
    lines += [f"Seed {seed} is void: {reason}" for seed, reason in cell["void"].items()]
    lines.append("")
    if not cell["models"]:
        return lines
    lines += [
        *_table(cell["models"], cell["gap_left"]),
        "",
        "Difference to the retrained model of the same seed:",
        "",
    ]
    others = {model: entry for model, entry in cell["gaps"].items() if model != "retrained"}
    lines += [*_table(others, None, signed=True), ""]
    for rounds, later in cell["after"].items():
        kept = {model: _without_cost(entry) for model, entry in later["models"].items()}
        lines += [f"After {rounds} further ordinary rounds:", "", *_table(kept, None), ""]
    return lines


def _table(models: Mapping[str, Any], left: Mapping[str, Any] | None, signed: bool = False) -> list[str]:
    measures = [
        measure
        for measure in MEASURES
        if any(entry.get(measure.key) for entry in models.values())
        and not (signed and measure.role == "cost")
    ]
    heads = ["model", *(["gap left"] if left else []), *(measure.label for measure in measures)]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for model, entry in models.items():
        cells = [label_of(model)]
        if left:
            cells.append(_share(left.get(model)))
        cells += [_with_spread(entry.get(measure.key), measure, signed) for measure in measures]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _with_spread(found: Mapping[str, Any] | None, measure: Measure, signed: bool) -> str:
    if not found:
        return "–"
    write = shown_gap if signed else shown
    text, deviation = write(found["mean"], measure.kind), found["deviation"]
    if deviation is None:
        return text
    return (
        f"{text} ± {100 * deviation:.1f}"
        if measure.kind == "share"
        else f"{text} ± {shown(deviation, measure.kind)}"
    )


def _share(found: Mapping[str, Any] | None) -> str:
    if not found:
        return "–"
    deviation = found["deviation"]
    return f"{found['mean']:.0%}" + ("" if deviation is None else f" ± {100 * deviation:.0f}")


def _without_cost(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: found for key, found in entry.items() if not key.startswith("cost.")}


def _csv_text(cells: Sequence[Mapping[str, Any]]) -> str:
    """One row a cell, model and measure: value and difference to retraining, unrounded."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            "cell",
            "rounds_after",
            "model",
            "measure",
            "mean",
            "deviation",
            "gap_mean",
            "gap_deviation",
            "seeds",
        ]
    )
    for cell in cells:
        for rounds, stage in {"0": cell, **cell["after"]}.items():
            for model, entry in stage["models"].items():
                for key, found in entry.items():
                    if found is None:
                        continue
                    apart = stage["gaps"][model].get(key) or {"mean": None, "deviation": None}
                    count = sum(number is not None for number in found["values"])
                    row = [found["mean"], found["deviation"], apart["mean"], apart["deviation"], count]
                    writer.writerow([cell["cell"], rounds, model, key, *row])
    return text.getvalue()


def _provenance(documents: Sequence[Document]) -> dict[str, Any]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    runs = {
        f"{document.get('cell') or ''}/seed{document.get('seed')}": document.get("run")
        for document in documents
    }
    methods = {
        f"{document.get('cell') or ''}/seed{document.get('seed')}": document.get("method")
        for document in documents
    }
    machine = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return {"versions": versions, "machine": machine, "runs": runs, "methods": methods}
