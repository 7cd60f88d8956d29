from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedunlearn.audit import relearning
from fedunlearn.audit.metric import Gathered, Sizes, metrics
from fedunlearn.audit.relearning import MOST_EPOCHS
from fedunlearn.audit.subject import Subject
from fedunlearn.tasks.training import TrainingSettings


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_the_original_itself_has_nothing_to_learn(target: Subject) -> None:
    found = relearning.measure(target, generator())
    assert found == {"steps": 0, "reached": 1, "epoch": 7}


def test_a_model_that_forgot_takes_steps_and_one_that_pretends_takes_few(target: Subject) -> None:
    eager = replace(target, training=TrainingSettings(local_epochs=1, learning_rate=0.1))
    assert target.retrained is not None
    never = relearning.measure(replace(eager, model=target.retrained), generator())
    pretending = {name: tensor.clone() for name, tensor in target.model.items()}
    pretending["output.bias"][3] -= 5.0
    hidden = relearning.measure(replace(eager, model=pretending), generator())
    assert 0 < int(hidden["steps"]) < int(never["steps"]) <= MOST_EPOCHS * 7  # type: ignore[arg-type]


def test_giving_up_counts_all_passes(target: Subject) -> None:
    slow = replace(target, model=target.retrained, training=TrainingSettings(1, learning_rate=1e-6))  # type: ignore[arg-type]
    assert relearning.measure(slow, generator()) == {"steps": MOST_EPOCHS * 7, "reached": 0, "epoch": 7}


def test_a_large_forget_set_is_sampled(target: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relearning, "MOST_SAMPLES", 64)
    assert relearning.measure(target, generator())["epoch"] == 2


def test_two_targets_by_hand() -> None:
    findings = {0: {"steps": 10, "reached": 1, "epoch": 5}, 2: {"steps": 20, "reached": 0, "epoch": 4}, 3: {}}
    values = relearning.combine(Gathered(Sizes(10), target=findings))
    assert {name: value.value for name, value in values.items()} == {
        "relearning": 15.0,
        "relearning.passes": 3.5,
        "relearning.reached": 0.5,
    }
    assert set(values) == set(metrics.get("relearning").values)
