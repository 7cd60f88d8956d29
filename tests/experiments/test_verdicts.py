"""The verdicts on unseen requests: which seeds, what is passed over, what the table says."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fedunlearn.audit.verdict_document import deviations
from fedunlearn.errors import FedunlearnError

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SPENT_ELSEWHERE = {0, 3, 4, 5, 6, 211, 351, 483, 491}
"""Seeds of tuning requests (docs/research/diffuse-influence.md)."""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("verdicts", EXPERIMENTS / "verdicts.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["verdicts"] = module
    specification.loader.exec_module(module)
    return module


def test_every_seed_is_new(script: ModuleType) -> None:
    spent = set(SPENT_ELSEWHERE)
    for path in EXPERIMENTS.glob("*.toml"):
        spent |= set(tomllib.loads(path.read_text())["seeds"])
    assert len(spent) > 10
    for name, seeds in script.SEEDS.items():
        assert (EXPERIMENTS / f"{name}.toml").is_file()
        assert not spent & set(seeds) and len(set(seeds)) == len(seeds) >= 2 * script.SLOTS


SMALL = """
name = "small"
seeds = [0]
[federation]
task = "digits"
clients = 3
partition = "iid"
rounds = 2
local_epochs = 1
learning_rate = 0.1
{planted}
[request]
client = "{client}"
[method]
method = "fine-tune"
rounds = 1
"""


def job(out: Path, seeds: list[int]) -> dict[str, Any]:
    (out / "slots").mkdir(parents=True)
    return {"experiment": "small", "seeds": seeds, "out": str(out), "band": 2}


def test_a_request_is_judged_and_told(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small.toml").write_text(SMALL.format(planted="", client="largest"))
    monkeypatch.setattr(script, "HERE", tmp_path)
    monkeypatch.setattr("fedunlearn.auditing.map_jobs", _inline)
    asked = job(tmp_path / "out", [7])
    found = script.judge(asked)
    assert (found["seed"], found["void"], found["passed_over"]) == (7, None, [])
    assert found["audit"]["band"]["size"] == 2 and deviations(found["audit"]) == []
    monkeypatch.setattr(script, "_one", None)
    assert script.judge(asked) == found
    text = script.markdown([found], 2)
    assert "| small | 7 | Inconclusive |" in text and "## small, seed 7" in text and "| forget_loss |" in text


def _inline(function: str, jobs: list[Any], workers: int | None = None, *others: Any) -> list[Any]:
    from fedunlearn.engines.mapping import map_jobs

    return map_jobs(function, jobs, 0, *others)


def test_a_plant_that_did_not_take_is_passed_over_and_named(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = 'canaries = "client={client},count=40"'
    (tmp_path / "small.toml").write_text(SMALL.replace("{planted}", planted).replace('"{client}"', '"largest"'))
    monkeypatch.setattr(script, "HERE", tmp_path)
    with pytest.raises(FedunlearnError, match=r"none of the seeds \[7\] will do for small"):
        script.judge(job(tmp_path / "out", [7]))
    assert "canary_exposure" in (tmp_path / "out" / "slots" / "small-7-band2.json").read_text()


def test_a_rule_that_fits_nobody_is_passed_over(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small.toml").write_text(SMALL.format(planted="", client="half-of-two-classes"))
    monkeypatch.setattr(script, "HERE", tmp_path)
    with pytest.raises(FedunlearnError, match="will do for small"):
        script.judge(job(tmp_path / "out", [7]))
    assert "no client fits" in (tmp_path / "out" / "slots" / "small-7-band2.json").read_text()
