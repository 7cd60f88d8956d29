from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import RequestError
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


def test_of_several_methods_the_last_is_compared_or_the_one_that_is_named(federation: Federation) -> None:
    request = federation.request_deletion(client=0, classes=[1])
    [tuned] = federation.unlearn(request, **FINE_TUNE)
    [masked] = federation.unlearn(request, rounds=1, ratio=0.25)

    def compared(method: str | None) -> Any:
        return federation.compare(request, retrain=False, method=method).document

    last, named = compared(None), compared("fine-tune")
    assert (last["method"]["name"], last["models"]["unlearned"]["digest"]) == ("selective-channels", masked.digest)
    assert (named["method"]["name"], named["models"]["unlearned"]["digest"]) == ("fine-tune", tuned.digest)
    assert last["attribution"] is not None and named["attribution"] is None
    assert compared("selective-channels") == {**last, "peak_memory_bytes": ANY}
    sentences = {}
    for method in ("fine-tune", None):
        federation.report(method=method)
        sentences[method] = (federation.folder / "comparison.md").read_text()
    assert "Unlearned by the method “fine-tune”. It was also served by “selective-channels”" in sentences["fine-tune"]
    assert "Unlearned by the method “selective-channels”." in sentences[None]
    with pytest.raises(
        RequestError, match=rf"{request.id} was not unlearned by 'retrain', but by fine-tune, selective"
    ):
        federation.compare(request, method="retrain")


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
