"""The table of `experiments/kills.py`; what it does is tested in tests/test_kill_and_resume.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "experiments" / "kills.py"

# In a process of its own: the script forbids numerical threads for good, so that it can fork.
ASK = """
import importlib.util, json, sys
specification = importlib.util.spec_from_file_location("kills", sys.argv[1])
kills = importlib.util.module_from_spec(specification)
specification.loader.exec_module(kills)
from pathlib import Path
well = dict(command="train", problems_after_kill=[], resumed=True, problems_in_the_end=[], same_end=True)
well["lost_or_twice"] = 0
ill = dict(command="erase", problems_after_kill=["x"], resumed=False, problems_in_the_end=[], same_end=False)
whole = dict(requests=[["a", "done"]], arrived=["a"], served=[{"request": "a"}])
twice = dict(requests=[["a", "done"]], arrived=["a", "a"], served=[{"request": "a"}])
lost = dict(requests=[], arrived=[], served=[])
progress = Path(sys.argv[2])
progress.write_text(json.dumps(dict(seed=1, source="s", kills=[well])))
print(json.dumps(dict(
    table=kills.table([well, well, dict(ill, lost_or_twice=None)]),
    wrong=[kills._lost_or_twice(found, whole) for found in (whole, twice, lost)],
    known=[len(kills._known(progress, *given)) for given in ((1, "s"), (2, "s"), (1, "t"))],
    child=[kills.in_child(lambda: {"a": 1}), kills.in_child(lambda: kills.time.sleep(60), kill_after=0.1)],
)))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict:
    progress = tmp_path_factory.mktemp("kills") / "progress.json"
    done = subprocess.run([sys.executable, "-c", ASK, str(SCRIPT), str(progress)], capture_output=True, check=True)
    return json.loads(done.stdout)


def test_kills_are_counted_by_command(said: dict) -> None:
    rows = {line.split(" | ")[0].strip("| "): line for line in said["table"].splitlines()[2:]}
    assert rows["train"] == "| train | 2 | 2 | 2 | 2 | 0 | 2 |"
    assert rows["erase"] == "| erase | 1 | 0 | 0 | 1 | 0 | 0 |"
    assert rows["all"] == "| all | 3 | 2 | 2 | 3 | 0 | 2 |"


def test_what_is_lost_or_done_twice_is_counted(said: dict) -> None:
    assert said["wrong"] == [0, 1, 1]


def test_only_the_same_experiment_is_gone_on_with(said: dict) -> None:
    assert said["known"] == [1, 0, 0]


def test_a_child_returns_or_is_killed(said: dict) -> None:
    assert said["child"] == [[0, {"a": 1}], [9, None]]
