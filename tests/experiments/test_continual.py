"""The data of the experiment on continual forgetting, and its tables."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def experiments(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The modules, as the script that lies beside them imports them."""
    monkeypatch.syspath_prepend(FOLDER)
    return {name: import_module(f"continual{name}") for name in ("", "_tasks", "_tables")}


def test_four_requests_name_eight_of_ten_classes_and_never_the_one_that_goes_missing(experiments) -> None:
    tasks = experiments["_tasks"]
    for seed in range(5):
        named = [label for classes in tasks.requested(seed) for label in classes]
        assert len(named) == len(set(named)) == 8
        assert tasks.class_order(seed)[0] not in named
    assert tasks.class_order(0) != tasks.class_order(1)


def test_clients_have_what_the_settings_say(experiments) -> None:
    tasks = experiments["_tasks"]
    quarter, four, missing = (getattr(tasks, name).dataset(3) for name in ("QUARTER", "FOUR", "MISSING"))
    assert torch.bincount(quarter.train.labels).tolist() == [100] * 10
    assert torch.bincount(four.train.labels).tolist() == [4] * 10
    counted = torch.bincount(missing.train.labels, minlength=10).tolist()
    assert counted == [0 if label == tasks.class_order(3)[0] else 100 for label in range(10)]
    # Otherwise the same images, and the same test set.
    kept = quarter.train.labels != tasks.class_order(3)[0]
    assert torch.equal(missing.train.inputs, quarter.train.inputs[kept])
    assert torch.equal(missing.test.inputs, quarter.test.inputs) and len(quarter.test) == 1000


@pytest.mark.parametrize("setting", ["full", "four", "missing"])
def test_both_forms_have_as_many_tries_and_others_one(experiments, setting: str) -> None:
    tries = experiments[""].tries
    assert len(tries("gs-lora", setting)) == len(tries("gs-lora-plus-plus", setting)) > 1
    assert all("push" in one for one in tries("gs-lora-plus-plus", setting))
    assert tries("lwf", setting) == [{}]
    assert experiments[""].TUNING_SEED not in experiments[""].SEEDS


def test_the_sparsest_of_the_best_tries_is_taken(experiments) -> None:
    def requests(*scores: float, zero: int | None = 0) -> list[dict]:
        return [{"h": score, "zero_groups": zero} for score in scores]

    best = experiments[""].best
    assert best([requests(0.9, 0.8), requests(0.9, 0.802, zero=1), requests(0.7, 0.7, zero=4)]) == 1
    assert best([requests(0.9, 0.8), requests(0.7, 0.7, zero=4)]) == 0
    assert best([requests(0.99), requests(0.6, 0.6, zero=None)]) == 1


def test_the_table_by_hand(experiments) -> None:
    def request(h: float, old: float | None, zero: int | None) -> dict:
        place = {"h": h, "remaining": 0.9, "forgotten": 0.01, "old": old, "missing": None}
        return {**place, "bytes": 30, "dense_bytes": 1000, "seconds": 2.0, "client_epochs": 1.5, "zero_groups": zero}

    def cell(seed: int, h: float) -> dict:
        asked = [request(h, None, 1), *[request(h, 0.02, 2)] * 3]
        probe = {"own": 0.0, "probed": 0.5}
        return {"seed": seed, "setting": "full", "method": "gs-lora", "requests": asked, "original": [0.95],
                "refused": "", "probe": probe}  # fmt: skip

    refused = {**cell(0, 0.1), "method": "scrub", "requests": [], "refused": "no target."}
    tuned = {**cell(7, 0.0), "original": [0.5]}
    cut = {**cell(2, 0.1), "requests": []}
    cells = [cell(0, 0.8), cell(1, 0.9), cut, refused, tuned]
    lines = experiments["_tables"].tables(cells, ["full"], ["gs-lora", "scrub", "lwf"], [0, 1, 2]).splitlines()
    [row] = [line for line in lines if line.startswith("| gs-lora ")]
    first = "85.0 / 90.0 / 1.0 / –"
    later = "85.0 / 90.0 / 1.0 / 2.0"
    assert row == (
        f"| gs-lora | 2 of 3 | {first} | {later} | {later} | {later} | 85.0 | 120 | 3.0 % | 8 | 6.0 | 1.8 of 4 | 50.0 |"
    )
    assert "Original: 95.0 % over all classes." in lines
    assert any(line.startswith("| scrub | 0 of 1 | no target.") for line in lines)
    assert not any(line.startswith("| lwf") for line in lines)
