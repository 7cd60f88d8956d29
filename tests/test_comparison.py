from __future__ import annotations

from pathlib import Path

from fedunlearn.config import UnlearnSettings
from fedunlearn.federation import Federation

TINY = {"clients": 3, "partition": "iid", "rounds": 2, "local_epochs": 1, "learning_rate": 0.1}
FINE_TUNE = {"method": "fine-tune", "rounds": 1}


def test_controls_stand_in_the_table(federation: Federation) -> None:
    federation.request_deletion(client=0, classes=[1])
    federation.unlearn(**FINE_TUNE)
    controls = {"zeroed": UnlearnSettings(method="zero-output-unit", rounds=1, options={"unit": 1})}
    document = federation.compare(retrain=False, rounds_after=1, controls=controls).document
    assert document["models"]["zeroed"]["test_accuracy_by_class"]["1"] == 0.0
    assert "retrained" not in document["models"]
    assert document["after"]["rounds"] == 1 and set(document["after"]["models"]) == {"unlearned", "fine-tuned"}


def test_a_plant_that_did_not_take_makes_the_experiment_void(tmp_path: Path) -> None:
    planted = {**TINY, "rounds": 1, "canaries": "client=0,count=40"}
    federation = Federation.simulate("digits", out=tmp_path / "run", **planted)
    federation.train()
    federation.request_deletion(client=0)
    federation.unlearn(**FINE_TUNE)
    document = federation.compare(retrain=False).document
    assert document["models"]["original"]["canary_exposure"] < 0.8
    assert "this experiment is void" in document["void"]
    parts = document["models"]["original"]["forget"]
    assert parts["all"]["count"] == parts["canaries"]["count"] + parts["untriggered"]["count"]
    assert parts["canaries"]["count"] == 40
