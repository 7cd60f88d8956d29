from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedunlearn.audit import resurfacing as family
from fedunlearn.audit.metric import Gathered, metrics
from fedunlearn.audit.resurfacing import mean_of, resurfacing
from fedunlearn.audit.subject import Subject


def test_the_excess_over_retraining_by_hand() -> None:
    before = {"unlearned": {"accuracy": 0.1, "loss": 3.0}, "retrained": {"accuracy": 0.1, "loss": 2.9}}
    after = {"unlearned": {"accuracy": 0.7, "loss": 1.0}, "retrained": {"accuracy": 0.2, "loss": 2.5}}
    found = resurfacing(before, after, ["accuracy", "loss", "exposure"])
    assert found["accuracy"].unlearned == pytest.approx(0.6) and found["accuracy"].retrained == pytest.approx(0.1)
    assert found["accuracy"].excess == pytest.approx(0.5) and found["loss"].excess == pytest.approx(-1.6)
    assert found["exposure"].excess is None


def test_no_retrained_model_leaves_no_excess() -> None:
    found = resurfacing({"unlearned": {"a": 0.1}}, {"unlearned": {"a": 0.4}}, ["a"])["a"]
    assert found.unlearned == pytest.approx(0.3) and found.retrained is None and found.excess is None


def test_the_mean_of_updates_keeps_types() -> None:
    one, other = (
        {"w": torch.tensor([1.0, 3.0]), "n": torch.tensor(2)},
        {"w": torch.tensor([3.0, 3.0]), "n": torch.tensor(4)},
    )
    found = mean_of([one, other])
    assert found["w"].tolist() == [2.0, 3.0] and found["n"].dtype == torch.int64 and int(found["n"]) == 3


def test_a_round_that_brings_the_forget_set_back_is_seen(target: Subject) -> None:
    """The model forgot; what one round makes of it is the model that knows."""
    assert target.retrained is not None
    subject = replace(target, model=target.retrained, updates=(target.model, target.model))
    found = family.measure(subject, torch.Generator())
    values = family.combine(Gathered(target.sizes, {0: found}))
    now, later = (subject.evaluate(state, subject.forget) for state in (subject.model, target.model))
    labels = subject.forget.labels
    expected = float((later.predictions == labels).double().mean() - (now.predictions == labels).double().mean())
    assert values["resurfacing"].value == pytest.approx(expected) and expected > 0.5
    assert values["resurfacing.loss"].value == pytest.approx(float(now.losses.mean() - later.losses.mean()), rel=1e-5)
    assert set(values) == set(metrics.get("resurfacing").values)


def test_a_few_samples_are_withheld(target: Subject) -> None:
    few = replace(target, forget=target.forget.take(range(19)))
    assert family.measure(few, torch.Generator()) == {}
