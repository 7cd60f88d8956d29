from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedunlearn.audit import retrain_gap
from fedunlearn.audit.metric import Gathered, Sizes, metrics
from fedunlearn.audit.subject import Subject


def test_the_gaps_by_hand() -> None:
    gathered = Gathered(
        Sizes(10),
        target={0: {"model": 9, "retrained": 5, "total": 10}, 3: {"model": 9, "retrained": 5, "total": 10}},
        remaining={1: {"model": 80, "retrained": 90, "total": 100}},
        server={"model": 7, "retrained": 8, "total": 10},
    )
    values = {name: value.value for name, value in retrain_gap.combine(gathered).items()}
    assert set(values) == set(metrics.get("retrain_gap").values)
    assert values["retrain_gap.forget_accuracy"] == pytest.approx(0.4)
    assert values["retrain_gap.retain_accuracy"] == pytest.approx(-0.1)
    assert values["retrain_gap.test_accuracy"] == pytest.approx(-0.1)
    assert values["retrain_gap"] == pytest.approx(0.2)
    assert values["retrain_gap.tug_of_war"] == pytest.approx(0.6 * 0.9 * 0.9)


def test_a_split_that_is_lacking_is_not_left_out_of_the_mean() -> None:
    gathered = Gathered(Sizes(10), server={"model": 7, "retrained": 8, "total": 10})
    found = retrain_gap.combine(gathered)["retrain_gap"]
    assert found.value is None and "was not reported" in found.refused


def test_each_role_counts_its_own_samples(target: Subject, server: Subject) -> None:
    for subject, samples in (
        (target, target.forget),
        (replace(target, role="remaining"), target.retained),
        (server, server.held_out),
    ):
        found = retrain_gap.measure(subject, torch.Generator())
        assert subject.retrained is not None
        answers = subject.evaluate(subject.retrained, samples).predictions
        assert found["total"] == len(samples) and found["retrained"] == int((answers == samples.labels).sum())
