"""The negative controls, each once, on small federations that all tests here share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedunlearn import auditing
from fedunlearn.audit.calibration import LEFT_OUT
from fedunlearn.errors import FedunlearnError, SettingsError
from fedunlearn.self_test.cases import CASES, Case, backdoor_case, class_case
from fedunlearn.self_test.models import METHOD
from fedunlearn.self_test.run import SelfTest, run_self_test

FEDERATION = {
    "task": "digits",
    "network": "perceptron",
    "clients": 4,
    "partition": "iid",
    "rounds": 6,
    "local_epochs": 2,
    "learning_rate": 0.1,
    "seed": 1,
}
SMALL = (
    backdoor_case(FEDERATION, client=0, other=1, backdoor="share=0.5,target=0,size=2,margin=0", rolled_back=3),
    class_case(FEDERATION, label=3, other=5, rolled_back=3),
)
NUMBERS: dict[str, Any] = {"models": 9, "repetitions": 4, "band": 8, "processes": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("self-test")


@pytest.fixture(scope="module")
def result(folder: Path) -> SelfTest:
    return run_self_test(folder, cases=SMALL, **NUMBERS)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "name"), [(case.name, name) for case in SMALL for name in case.subjects])
def test_a_control_never_passes(result: SelfTest, case: str, name: str) -> None:
    entry = result.document["cases"][case]["bands"]["8"]["subjects"][name]
    assert entry["pass"] == 0 and entry["pass"] + entry["fail"] + entry["inconclusive"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("case", [case.name for case in SMALL])
def test_doing_nothing_fails_and_retraining_does_not(result: SelfTest, case: str) -> None:
    subjects = result.document["cases"][case]["bands"]["8"]["subjects"]
    assert subjects["do-nothing"]["fail"] == 4
    assert subjects[LEFT_OUT]["fail"] <= 1
    assert METHOD in subjects and subjects[METHOD]["asked"] == {}


@pytest.mark.slow
def test_the_answer_is_written_and_is_the_same_when_asked_again(
    result: SelfTest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> list[Any]:
        raise FedunlearnError("nothing may be retrained here.")

    written = json.loads((folder / "self-test.json").read_text())
    assert written == json.loads(json.dumps(result.document))
    shown = (folder / "self-test.md").read_text()
    assert all(f"## {case.name}" in shown and name in shown for case in SMALL for name in case.subjects)
    monkeypatch.setattr(auditing, "map_jobs", refuse)
    again = run_self_test(folder, cases=SMALL, **NUMBERS).document
    assert {**again, "environment": 0, "date": 0} == {**result.document, "environment": 0, "date": 0}


@pytest.mark.parametrize("numbers", [{"models": 8, "band": 8}, {"models": 5}, {"band": 1}, {"repetitions": -1}])
def test_numbers_that_do_not_go_together_are_refused(tmp_path: Path, numbers: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match="at least one more model"):
        run_self_test(tmp_path, **numbers)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("case", (*CASES, *SMALL), ids=lambda case: case.name)
def test_a_case_travels_as_json(case: Case) -> None:
    assert Case(**json.loads(json.dumps(case.model_dump(mode="json")))) == case
    # Every control is meant to be caught by something that is judged.
    assert all(subject.caught_by for subject in case.subjects.values())
