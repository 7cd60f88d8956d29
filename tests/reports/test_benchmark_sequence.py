"""Requests one after another: the tables over the steps."""

from __future__ import annotations

import copy
from typing import Any

from fedunlearn.reports.aggregate import aggregate, as_json
from fedunlearn.reports.benchmark_sequence import sequence_lines


def steps_of(document: dict[str, Any], accuracies: list[list[float]]) -> list[dict[str, Any]]:
    """Two steps of two seeds: test accuracies of the unlearned model, a list a step."""
    found = []
    for number, of_step in enumerate(accuracies, start=1):
        for seed, accuracy in enumerate(of_step):
            one = copy.deepcopy(document)
            one["models"]["unlearned"]["test_accuracy"] = accuracy
            one |= {"cell": f"after-{number}", "seed": seed, "step": {"of": "", "number": number}}
            if number > 1:
                one["deletions"] = [
                    {"request": "a", "forget": {"unlearned": {"accuracy": 0.5}, "retrained": None}},
                    {"request": "b", "forget": {"unlearned": {"accuracy": 0.25 + 0.5 * seed}}},
                ]
            found.append(one)
    return found


def test_each_step_has_its_column_and_the_last_one_shows_every_deletion(document: dict[str, Any]) -> None:
    cells = aggregate(steps_of(document, [[0.90, 0.92], [0.80, 0.84]]))
    lines = sequence_lines(cells)
    of_accuracy = lines[lines.index("### Test accuracy") :]
    assert "| Unlearned | 91.0% ± 1.4 | 82.0% ± 2.8 |" in of_accuracy
    of_deletions = lines[lines.index("### Each deletion, in the end") :]
    assert "| model | request 1 | request 2 |" in of_deletions
    assert "| Unlearned | 50.0% ± 0.0 | 50.0% ± 35.4 |" in of_deletions
    assert "| Retrained | – | – |" in of_deletions
    content = as_json(cells[1])
    assert content["step"] == {"of": "", "number": 2}
    assert content["deletions"][1]["unlearned"]["mean"] == 0.5 and "retrained" not in content["deletions"][0]


def test_a_single_request_is_no_sequence(document: dict[str, Any]) -> None:
    cells = aggregate([{"cell": "", "seed": 0, **document}])
    assert sequence_lines(cells) == []
    assert {"step", "deletions"} & set(as_json(cells[0])) == set()
