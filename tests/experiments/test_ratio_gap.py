"""The comparison of the ratio that is read off with fixed ones, by hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "experiments" / "ratio_gap.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("ratio_gap", SCRIPT)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_cells_count_by_their_valid_runs(script: ModuleType) -> None:
    def cell(seeds: list[int], **distances: float) -> dict:
        models = {name.replace("_", "-"): {"distance_to_retrained": {"mean": d}} for name, d in distances.items()}
        return {"seeds": seeds, "models": models}

    results = {
        "cells": [
            cell([7], unlearned=0.1, ratio_0=0.4, ratio_1=0.2, fine_tuned=9.0),
            cell([7, 8], unlearned=0.4, ratio_0=0.1, ratio_1=0.5, fine_tuned=9.0),
        ]
    }
    means, runs = script.gaps(results)
    assert runs == 3 and set(means) == {"unlearned", "ratio-0", "ratio-1"}
    assert means["unlearned"] == pytest.approx(0.3)
    assert means["ratio-0"] == pytest.approx(0.2)
    assert "auto is 1.50 times the best fixed ratio (ratio-0)" in script.table(results)
