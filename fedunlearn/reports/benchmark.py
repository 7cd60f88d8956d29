"""Writing a benchmark: aggregates, every single run, tables, pictures, and how it all came about."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedunlearn.files import atomic_write_bytes, json_bytes, make_folder
from fedunlearn.reports.aggregate import CellAggregate, aggregate, as_json
from fedunlearn.reports.benchmark_csv import csv_text, rows
from fedunlearn.reports.benchmark_figures import distance_by_round, trade_off
from fedunlearn.reports.benchmark_latex import latex
from fedunlearn.reports.benchmark_page import benchmark_page
from fedunlearn.reports.benchmark_parquet import parquet_bytes
from fedunlearn.reports.benchmark_tables import markdown
from fedunlearn.reports.benchmark_tries import tries_csv
from fedunlearn.reports.document import Document, clean
from fedunlearn.reports.plots.style import png
from fedunlearn.reports.provenance import provenance


def _now() -> datetime:
    return datetime.now(UTC)


def write_benchmark(
    name: str,
    question: str,
    documents: Iterable[Document],
    out: Path | str,
    now: Callable[[], datetime] = _now,
    tuning: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `results.json`, `.csv`, `.parquet`, `.md` and `.tex`, `index.html` and `figures/*.png` into `out`.

    The content of the first is returned; with tuning there is `tries.csv`, too.

    Void runs are named and marked, and count in no mean. Files of an earlier writing are replaced.

    Args:
        name: of the experiment. question: what it asks.
        documents: comparisons, each with the further keys "cell" and "seed"; "environment" where it is known.
        now: the clock that dates the tables.
        tuning: the tries: see `fedunlearn.contest.tuning.as_json`; None: nothing was tuned.

    Raises:
        RunFolderError: a file cannot be written.
        SettingsError: the Parquet file cannot be written; all others are.
    """
    out = make_folder(Path(out))
    folder = make_folder(out / "figures")
    documents = [clean(document) for document in documents]
    cells = aggregate(documents)
    origin = provenance(documents, now().isoformat(timespec="seconds"))
    pictures = {cell.cell: _draw(cell) for cell in cells}
    results = clean(
        {
            "name": name,
            "question": question,
            "cells": [as_json(cell) for cell in cells],
            **({} if tuning is None else {"tuning": tuning}),
            "provenance": origin,
        }
    )
    found = rows(documents)
    paths = {cell: [f"figures/{file}" for file in drawn] for cell, drawn in pictures.items()}
    files = {
        out / "results.json": json_bytes(results),
        out / "results.csv": csv_text(documents).encode(),
        out / "results.md": markdown(name, question, cells, origin, paths, tuning).encode(),
        out / "results.tex": latex(name, question, cells).encode(),
        out / "index.html": benchmark_page(name, question, cells, found, origin, pictures, tuning).encode(),
        **{folder / file: data for drawn in pictures.values() for file, data in drawn.items()},
    }
    if tuning is not None:
        files[out / "tries.csv"] = tries_csv(tuning).encode()
    for path, data in files.items():
        atomic_write_bytes(path, data)
    for old in set(folder.glob("*.png")) - set(files):
        old.unlink()
    atomic_write_bytes(out / "results.parquet", parquet_bytes(found))
    return results


def _draw(cell: CellAggregate) -> dict[str, bytes]:
    """File name -> PNG."""
    ending = f"-{re.sub(r'[^A-Za-z0-9._-]+', '-', cell.cell)}" if cell.cell else ""
    drawn = {"distance-by-round": distance_by_round(cell), "trade-off": trade_off(cell)}
    return {f"{title}{ending}.png": png(figure) for title, figure in drawn.items() if figure is not None}
