"""A benchmark's single runs as rows for CSV: nothing averaged, nothing rounded, void ones marked."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from fedunlearn.reports.aggregate import stages_of
from fedunlearn.reports.benchmark_contest import band_of
from fedunlearn.reports.benchmark_measures import (
    FIGURES,
    cost_shares,
    distance_keys,
    distance_to,
    loss_distances,
    way_to,
)
from fedunlearn.reports.document import MODEL_ORDER, Document, Model, value

Row = dict[str, str | int | float | None]


def rows(documents: Iterable[Document]) -> list[Row]:
    """One row a cell, seed, number of further ordinary rounds and model; one also for a contender that cannot."""
    found: list[Row] = []
    for document in documents:
        stages = stages_of(document)
        keys = distance_keys(stages[0].values())
        for rounds, models in stages.items():
            for name, model in models.items():
                if rounds and name == "original":
                    continue
                contender = (document.get("methods") or {}).get(name)
                head: Row = {
                    "cell": str(document["cell"]),
                    "seed": document["seed"],
                    "rounds_after": rounds,
                    "model": name,
                    "void": document.get("void"),
                    "digest": model.get("digest"),
                }
                found.append(head | _contest(document, name, contender) | _numbers(model, models, keys))
        for name, contender in (document.get("methods") or {}).items():
            if contender.get("cannot"):
                head = {"cell": str(document["cell"]), "seed": document["seed"], "rounds_after": 0, "model": name}
                found.append(head | {"void": document.get("void")} | _contest(document, name, contender))
    return found


def _contest(document: Document, name: str, contender: Mapping[str, Any] | None) -> Row:
    """What a contest says of a row: nothing where the document is none."""
    if not document.get("methods"):
        return {}
    entry = contender or {}
    budget = entry.get("budget") or {}
    over = budget.get("over")
    return {
        "method": entry.get("method"),
        "kind": kind_of_row(document, name),
        "cannot": entry.get("cannot"),
        "settings": json.dumps(entry["settings"], sort_keys=True) if contender else None,
        "budget_of": budget.get("of"),
        "budget_allowed": budget.get("allowed"),
        "budget_spent": budget.get("spent"),
        "over_budget": None if over is None else int(over),
    }


def kind_of_row(document: Document, name: str) -> str:
    """What sort of model a row is: a contender's kind, "band", "reference", "under test" or "control"."""
    contender = (document.get("methods") or {}).get(name)
    if contender is not None:
        return str(contender["kind"])
    if name in band_of(document):
        return "band"
    return "under test" if name == "unlearned" else "reference" if name in MODEL_ORDER else "control"


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


def heads_of(found: Iterable[Row]) -> list[str]:
    """The columns of all rows, in the order in which they come."""
    heads: dict[str, None] = {}
    for row in found:
        heads |= dict.fromkeys(row)
    return list(heads)


def csv_text(documents: Iterable[Document]) -> str:
    """`rows` as CSV with a header; empty cells where there is no number."""
    found = rows(documents)
    text = io.StringIO()
    writer = csv.DictWriter(text, heads_of(found), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue()
