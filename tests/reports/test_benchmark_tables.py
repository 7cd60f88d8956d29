"""A benchmark as a Markdown page."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fedunlearn.reports.aggregate import aggregate
from fedunlearn.reports.benchmark_tables import markdown
from fedunlearn.reports.provenance import environment, provenance


@pytest.fixture
def documents(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Two cells of two seeds; the second seed's test accuracies are 0.02 lower."""
    found = []
    here = environment()
    for cell in ("clients/10", "clients/20"):
        for seed in (0, 1):
            copy = json.loads(json.dumps(document))
            for model in copy["models"].values():
                model["test_accuracy"] -= 0.02 * seed
                model["digest"] = f"{seed}{'abc' * 21}"
            found.append({"cell": cell, "seed": seed, "environment": here, **copy})
    return found


def page_of(documents: list[dict[str, Any]]) -> str:
    figures = {"clients/10": ["figures/trade-off-clients-10.png"]}
    origin = provenance(documents, "2026-03-04")
    return markdown("leaving", "Does it forget?", aggregate(documents), origin, figures)


def test_the_page_has_a_table_a_cell_with_means_spreads_and_cost(documents: list[dict[str, Any]]) -> None:
    page = page_of(documents)
    assert page.startswith("# leaving\n\nDoes it forget?\n")
    assert page.count("\n## clients/") == 2
    row = next(line for line in page.splitlines() if line.startswith("| Unlearned | 93.1%"))
    assert "93.1% ± 1.4" in row
    # 3 of 30 client epochs, 0.39 of 8.9 MB.
    assert "| 1/10.0 | 1/22.8 |" in page
    assert page.count("### After 5 further ordinary rounds") == 2
    assert page.count("![trade-off-clients-10](figures/trade-off-clients-10.png)") == 1


def test_the_page_says_how_it_came_about(documents: list[dict[str, Any]]) -> None:
    page = page_of(documents)
    assert "All runs: Python" in page and "Written 2026-03-04." in page
    assert 'Federation: `{"task": "mnist5k"' in page
    assert 'Method: `{"method": "selective-channels"' in page
    assert "| clients/20 seed 1 | 1abcabcabcab |" in page
    documents[3]["run"]["clients"] = 20
    documents[2]["run"]["clients"] = 20
    page = page_of(documents)
    assert 'Federation, clients/10: `{"task": "mnist5k", "clients": 10' in page
    assert 'Federation, clients/20: `{"task": "mnist5k", "clients": 20' in page


def test_every_row_of_a_table_is_as_wide_as_its_head(documents: list[dict[str, Any]]) -> None:
    widths: set[int] = set()
    for line in [*page_of(documents).splitlines(), ""]:
        if line.startswith("|"):
            widths.add(line.count("|"))
        else:
            assert len(widths) <= 1
            widths.clear()


def test_a_void_cell_is_named_and_not_tabulated(documents: list[dict[str, Any]]) -> None:
    for document in documents[2:]:
        document["void"] = "this experiment is void: back-door success is 0.3."
    documents[0]["void"] = "this experiment is void: back-door success is 0.5."
    page = page_of(documents)
    assert "**Void: seed 0.** this experiment is void: back-door success is 0.5." in page
    assert "Seeds: 1 (void ones left out)." in page
    # One seed has a value and no spread.
    assert "| Unlearned | 92.1% |" in page
    assert page.count("No seed is left to be tabulated.") == 1


def test_it_says_where_seeds_lack_a_figure(documents: list[dict[str, Any]]) -> None:
    documents[0]["models"]["unlearned"]["test_accuracy"] = None
    assert "| Unlearned | 92.1% (1 of 2 seeds) |" in page_of(documents)
