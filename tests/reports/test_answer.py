from __future__ import annotations

import copy
from typing import Any

import pytest

from fedunlearn.reports.answer import answer, bytes_moved, evidence_measures, findings, gap_left
from fedunlearn.reports.document import models_of

ORIGINAL = {
    "test_accuracy": 0.95,
    "backdoor_success": 0.9,
    "forget": {"untriggered": {"accuracy": 0.98, "loss": 0.1}},
}
RETRAINED = {
    "test_accuracy": 0.94,
    "backdoor_success": 0.0,
    "forget": {"untriggered": {"accuracy": 0.9, "loss": 0.5}},
}


def entry(backdoor: float, loss: float | None, test: float = 0.94) -> dict[str, Any]:
    return {
        "test_accuracy": test,
        "backdoor_success": backdoor,
        "forget": {"untriggered": {"accuracy": 0.95, "loss": loss}},
    }


def document_of(unlearned: dict[str, Any], **others: Any) -> dict[str, Any]:
    models = {"original": ORIGINAL, "unlearned": unlearned, "retrained": RETRAINED, **others}
    return {"models": copy.deepcopy(models)}


@pytest.mark.parametrize(
    ("unlearned", "state"),
    [
        (entry(0.0, 0.5), "forgotten"),
        (entry(0.02, 0.44), "forgotten"),
        (entry(0.0, 0.33), "mostly"),
        (entry(0.0, 0.9), "past"),
        (entry(0.0, 0.12), "partly"),
        (entry(0.88, 0.12), "not-forgotten"),
        (entry(0.88, 0.9), "partly"),
    ],
)
def test_the_state_follows_from_where_the_model_stands(unlearned: dict[str, Any], state: str) -> None:
    assert answer(document_of(unlearned)).state == state


def test_a_worse_model_is_no_success() -> None:
    said = answer(document_of(entry(0.0, 0.5, test=0.80)))
    assert said.state == "partly"
    assert said.headline == "Forgotten, but the model got worse."


def test_where_original_and_retrained_agree_nothing_is_shown() -> None:
    same = {"test_accuracy": 0.95, "backdoor_success": 0.02}
    said = answer({"models": {"original": same, "unlearned": same, "retrained": same}})
    assert said.state == "cannot-tell"
    assert said.findings == ()


def test_what_the_retrained_model_knows_better_is_no_memory() -> None:
    models = {name: entry(0.02, loss) for name, loss in (("original", 0.87), ("unlearned", 0.74), ("retrained", 0.80))}
    said = answer({"models": models})
    assert (said.state, said.findings) == ("cannot-tell", ())
    assert "the retrained one knows the data better" in " ".join(said.sentences)


def test_doing_nothing_is_not_forgotten() -> None:
    assert answer(document_of(ORIGINAL)).state == "not-forgotten"
    assert answer(document_of(RETRAINED)).state == "forgotten"


def test_a_void_experiment_says_only_that() -> None:
    said = answer({**document_of(RETRAINED), "void": "the back-door did not take."})
    assert said.state == "void"
    assert said.sentences == ("The back-door did not take.",)


@pytest.mark.parametrize("gone", ["original", "unlearned", "retrained"])
def test_a_missing_model_is_named(gone: str) -> None:
    document = document_of(RETRAINED)
    document["models"][gone] = None
    said = answer(document)
    assert said.state == "open"
    assert gone in said.sentences[0]


def test_an_empty_document_has_no_answer() -> None:
    assert answer({}).state == "open"


def test_the_loss_speaks_for_a_part_and_the_accuracy_where_it_was_withheld() -> None:
    models = models_of(document_of(RETRAINED))
    assert [measure.key for measure in evidence_measures(models)] == [
        "forget.untriggered.loss",
        "backdoor_success",
    ]
    for model in models.values():
        model["forget"]["untriggered"] = {**model["forget"]["untriggered"], "loss": None}
    assert "forget.untriggered.accuracy" in [measure.key for measure in evidence_measures(models)]


def test_the_gap_left_is_one_before_and_zero_after_retraining() -> None:
    models = models_of(document_of(entry(0.45, 0.3), wrecked=entry(1.0, 99.0)))
    assert gap_left(models, "original") == 1.0
    assert gap_left(models, "retrained") == 0.0
    assert gap_left(models, "unlearned") == pytest.approx(0.5)
    assert gap_left(models, "wrecked") == 1.0
    assert [round(one.way, 6) for one in findings(models, "unlearned")] == [0.5, 0.5]


def test_a_better_rival_is_named() -> None:
    said = answer(document_of(entry(0.0, 0.33), **{"fine-tuned": entry(0.0, 0.5)}))
    assert any(line.startswith("Closer to the retrained model was “fine-tuned only”") for line in said.sentences)
    said = answer(document_of(entry(0.0, 0.5), **{"fine-tuned": entry(0.5, 0.2)}))
    assert any("unlearning came closest" in line for line in said.sentences)


def test_what_comes_back_is_told() -> None:
    document = {**document_of(entry(0.0, 0.5)), "after": {"5": {"unlearned": entry(0.8, 0.5)}}}
    assert "After 5 further ordinary rounds it came back in part: back-door success." in answer(document).sentences
    document["after"]["5"]["retrained"] = entry(0.72, 0.5)
    assert any("had not come back" in line for line in answer(document).sentences)
    document = {**document_of(entry(0.0, 0.9)), "after": {"5": {"unlearned": entry(0.0, 0.12)}}}
    assert any("came back in part: untriggered: loss." in line for line in answer(document).sentences)
    document["after"]["5"]["unlearned"] = entry(0.01, 0.48)
    assert any("had not come back" in line for line in answer(document).sentences)


def test_the_method_is_named_first(document: dict[str, Any]) -> None:
    assert answer(document).sentences[0] == "Unlearned by the method “selective-channels”."
    document["method"]["others"] = ["scrub", "not"]
    [said, *_] = answer(document).sentences
    assert said.endswith("It was also served by “scrub” and “not”: --method names the one to compare.")
    document["models"]["retrained"] = None
    assert answer(document).sentences == ("For an answer the comparison also needs a retrained model.", said)


def test_the_cost_is_put_beside_that_of_retraining(document: dict[str, Any]) -> None:
    cost = next(line for line in answer(document).sentences if line.startswith("Cost:"))
    assert "3 passes over the data (retraining: 30, 10 times as much)" in cost
    assert bytes_moved({"cost": {"bytes_up": 3, "bytes_down": None}}) == 3
    assert bytes_moved({}) is None
