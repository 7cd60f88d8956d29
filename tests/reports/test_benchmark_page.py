"""A benchmark's page: it holds every row, needs nothing from outside, and its markup is sound."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from fedunlearn.reports.aggregate import aggregate
from fedunlearn.reports.benchmark_csv import rows
from fedunlearn.reports.benchmark_page import benchmark_page
from fedunlearn.reports.provenance import environment, provenance

VOID = {"meta", "img", "input", "br", "link"}


class Markup(HTMLParser):
    """Checks that elements are closed in order, and keeps the rows' attributes and the choices of the filters."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[dict[str, str | None]] = []
        self.options: list[str | None] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        known = dict(attrs)
        if tag == "tr" and "data-cell" in known:
            self.rows.append(known)
        if tag == "option":
            self.options.append(known["value"])
        self.sources += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def documents(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Two cells; the second has a name that is markup, and a contender that cannot."""
    second = json.loads(json.dumps(document))
    second["models"]["ssd"] = second["models"].pop("random-channels")
    budget = {"of": "bytes", "allowed": 1e6, "spent": 2e6, "rounds": 3, "own_rounds": True, "over": True}
    settings = {"method": "ssd", "rounds": 3, "local_epochs": 1}
    shared = {"method": "ssd", "kind": "centralised", "settings": settings, "budget": budget}
    second["methods"] = {
        "ssd": {**shared, "cannot": None},
        "fused": {**shared, "cannot": "it needs <adapters>."},
    }
    second["models"]["retrained-band-1"] = second["models"]["retrained"]
    second["band"] = ["retrained-band-1"]
    here = environment()
    return [
        {"cell": "", "seed": 0, "environment": here, **document},
        {"cell": "<b>&", "seed": 0, "environment": here, **second},
    ]


def page_of(documents: list[dict[str, Any]], **more: Any) -> str:
    pictures = {"": {"trade-off.png": b"\x89PNG"}}
    return benchmark_page(
        "a < b",
        "Does it forget?",
        aggregate(documents),
        rows(documents),
        provenance(documents, "2026-03-04"),
        pictures,
        **more,
    )


def test_it_holds_every_row_of_means_and_of_runs(documents: list[dict[str, Any]]) -> None:
    markup = Markup()
    page = page_of(documents)
    markup.feed(page)
    assert markup.open == []
    cells = aggregate(documents)
    # Means: every model, a refused contender and a band; then every single run.
    means = [(cell.cell or "results", name) for cell in cells for name in cell.models]
    means += [("<b>&", "fused"), ("<b>&", "band")]
    runs = [(str(row["cell"]) or "results", str(row["model"])) for row in rows(documents)]
    found = [(row["data-cell"], row["data-method"]) for row in markup.rows]
    assert sorted(found) == sorted([*means, *runs])  # type: ignore[type-var]
    assert "cannot: it needs &lt;adapters&gt;." in page and "1.0 MB, over on seed 0 (rounds of its own)" in page
    assert "Retrained, 2 models" in page


def test_filters_offer_what_is_there(documents: list[dict[str, Any]]) -> None:
    markup = Markup()
    markup.feed(page_of(documents))
    assert {"", "results", "<b>&", "centralised", "reference", "control", "under test", "ssd"} <= set(markup.options)
    kinds = {row["data-kind"] for row in markup.rows if row["data-method"] == "ssd"}
    assert kinds == {"centralised"}


def test_nothing_comes_from_outside(documents: list[dict[str, Any]]) -> None:
    page = page_of(documents)
    markup = Markup()
    markup.feed(page)
    assert markup.sources and all(source.startswith("data:image/png;base64,") for source in markup.sources)
    assert not re.search(r"https?://|@import|url\(", page)
    assert "<h1>a &lt; b</h1>" in page and "<b>&<" not in page


def test_numbers_sort_as_numbers(documents: list[dict[str, Any]]) -> None:
    page = page_of(documents)
    row = next(line for line in re.findall(r"<tr[^>]*>.*?</tr>", page) if 'data-method="unlearned"' in line)
    keys = re.findall(r'data-sort="([^"]*)"', row)
    (cell, _) = aggregate(documents)
    distance = cell.models["unlearned"].distance
    assert distance is not None and float(keys[3]) == distance.mean


def test_tries_and_voids_are_told(documents: list[dict[str, Any]]) -> None:
    tries = [{"number": 1, "changes": {"a": 2}, "distance": None, "cannot": {}, "chosen": True}]
    tuning = {"tries": 1, "seeds": [7], "cells": {"": {"ssd": tries}}}
    documents[0]["void"] = "it did not take."
    page = page_of(documents, tuning=tuning)
    assert "The tries of the tuning" in page and "a = 2" in page
    assert "seed 0: it did not take." in page
