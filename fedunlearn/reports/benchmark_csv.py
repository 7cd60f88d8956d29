"""A benchmark's single runs as rows for CSV: nothing averaged, nothing rounded, void ones marked."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping

from fedunlearn.reports.aggregate import stages_of
from fedunlearn.reports.benchmark_measures import (
    FIGURES,
    cost_shares,
    distance_keys,
    distance_to,
    loss_distances,
    way_to,
)
from fedunlearn.reports.document import Document, Model, value

Row = dict[str, str | int | float | None]


def rows(documents: Iterable[Document]) -> list[Row]:
    """One row a cell, seed, number of further ordinary rounds and model."""
    found: list[Row] = []
    for document in documents:
        stages = stages_of(document)
        keys = distance_keys(stages[0].values())
        for rounds, models in stages.items():
            for name, model in models.items():
                if rounds and name == "original":
                    continue
                head: Row = {
                    "cell": str(document["cell"]),
                    "seed": document["seed"],
                    "rounds_after": rounds,
                    "model": name,
                    "void": document.get("void"),
                    "digest": model.get("digest"),
                }
                found.append(head | _numbers(model, models, keys))
    return found


def _numbers(model: Model, models: Mapping[str, Model], keys: tuple[str, ...]) -> Row:
    original, retrained = models.get("original"), models.get("retrained")
    by_class = model.get("test_accuracy_by_class") or {}
    numbers: Row = {measure.key: value(model, measure.key) for measure in FIGURES}
    numbers["distance_to_retrained"] = distance_to(model, retrained, keys)
    numbers |= {f"distance_to_retrained.{k}": n for k, n in loss_distances(model, retrained).items()}
    numbers |= {f"share_of_the_way.{k}": n for k, n in way_to(original, model, retrained).items()}
    numbers |= {f"cost_share.{k}": n for k, n in cost_shares(model, retrained).items()}
    numbers |= {f"test_accuracy_by_class.{name}": value({"x": by_class[name]}, "x") for name in by_class}
    return numbers


def csv_text(documents: Iterable[Document]) -> str:
    """`rows` as CSV with a header; empty cells where there is no number."""
    found = rows(documents)
    heads: dict[str, None] = {}
    for row in found:
        heads |= dict.fromkeys(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(heads), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue()
