from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from fedunlearn.audit.canary_verdict import judge_canaries
from fedunlearn.audit.measured import Measured
from fedunlearn.audit.verdict_document import deviations, find, find_again
from fedunlearn.errors import DataError

LOSSES = (0.20, 0.21, 0.22, 0.23, 0.21, 0.20, 0.22, 0.24)


def measured(models: int = 8, unlearned: float = 0.21) -> list[Measured]:
    return [
        Measured("forget_loss", "removal", "log", 0.05, unlearned, LOSSES[:models]),
        Measured("test_accuracy", "utility", "logit", 0.96, 0.951, (0.95, 0.952) * (models // 2), 1000),
    ]


def document(models: int = 8, unlearned: float = 0.21, canaries: bool = False) -> dict[str, Any]:
    """As it comes back from a file."""
    said = find(measured(models, unlearned), judge_canaries(0.9, 0.51, 300, 10) if canaries else None)
    written: dict[str, Any] = json.loads(json.dumps({**said.document(), "band": {"size": models}, "earlier": []}))
    return written


@pytest.mark.parametrize(
    ("models", "unlearned", "verdict"), [(8, 0.21, "pass"), (8, 0.05, "fail"), (6, 0.21, "inconclusive")]
)
def test_the_verdict_is_found_again_from_the_document_alone(models: int, unlearned: float, verdict: str) -> None:
    written = document(models, unlearned)
    assert written["verdict"] == verdict == find_again(written).outcome
    assert deviations(written) == []


def test_canaries_decide_where_the_band_is_too_small() -> None:
    assert document(8, canaries=True)["rests_on"] == "band"
    small = document(2, canaries=True)
    assert (small["rests_on"], small["verdict"]) == ("canaries", "pass")
    assert "canaries alone" in small["why"]
    # A band that is small may fail all the same.
    assert (document(6, 0.05, True)["rests_on"], document(6, 0.05, True)["verdict"]) == ("band", "fail")
    assert find([], judge_canaries(0.9, 0.51, 300, 10)).outcome == "pass"
    for written in (small, document(6, 0.05, True)):
        assert deviations(written) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d.update(verdict="pass"), "verdict is stated as 'pass'"),
        (lambda d: d.update(why="all is well."), "why is stated"),
        (lambda d: d.update(rests_on="canaries"), "rests_on is stated"),
        (lambda d: d["primary"][0].update(margin=9.0), "forget_loss: margin is stated as 9.0"),
        (lambda d: d["primary"][0].update(informative=False), "forget_loss: informative"),
        (lambda d: d["primary"][0].update(unlearned=0.21), "follows as"),
        (lambda d: d["primary"][0]["retrained"].append(0.05), "bands of"),
        (lambda d: d["primary"][1].update(outcome="fail"), "test_accuracy: outcome"),
        (lambda d: d["primary"][0]["interval"].append(1.0), "forget_loss: interval"),
        (lambda d: d["band"].update(size=20), "stated to have 20 models"),
    ],
)
def test_whatever_is_changed_is_named(change: Any, named: str) -> None:
    forged = document(8, 0.05)
    change(forged)
    try:
        found = " ".join(deviations(forged))
    except DataError as error:
        found = str(error)
    assert named in found


def test_a_changed_canary_is_named() -> None:
    forged = document(2, canaries=True)
    forged["canaries"]["limit"] = 0.4
    assert any("canaries: limit" in one for one in deviations(forged))


def test_earlier_requests_are_looked_at_too() -> None:
    written, earlier = document(), document(8, 0.05)
    written["earlier"] = [copy.deepcopy(earlier)]
    assert deviations(written) == []
    written["earlier"][0]["verdict"] = "pass"
    assert deviations(written)[0].startswith("earlier request 1: verdict")


@pytest.mark.parametrize("damaged", [{}, {"primary": None}, {"primary": [3]}, {"primary": []}, {"primary": [{}]}])
def test_a_damaged_document_is_told(damaged: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        find_again(damaged)
