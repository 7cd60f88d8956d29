from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedunlearn.audit import subject as module
from fedunlearn.audit.metric import Sizes
from fedunlearn.audit.subject import Evaluations, Subject, no_samples
from fedunlearn.tasks.training import evaluate


def test_answers_are_those_of_the_state(target: Subject) -> None:
    for state in (target.model, target.references[0]):
        network = target.network(state)
        expected = evaluate(target.task, network, target.forget)
        assert torch.equal(target.evaluate(state, target.forget).logits, expected.logits)


def test_answers_are_computed_once_for_all_that_share_them(target: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return evaluate(*arguments)

    monkeypatch.setattr(module, "evaluate", counted)
    target = replace(target, evaluations=Evaluations())
    other = replace(target, model=target.references[0])
    for _ in range(2):
        target.evaluate(target.references[0], target.forget)
        other.evaluate(other.model, target.forget)
        other.evaluate(other.model, target.held_out)
    assert len(calls) == 2


def test_a_network_of_its_own_changes_nothing(target: Subject) -> None:
    network = target.network(target.model)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert target.evaluate(target.model, target.forget).losses.mean() < 1.0


def test_counts(target: Subject) -> None:
    assert target.sizes == Sizes(10, references=8, shadows=0, updates=4)
    assert target.given == {"references": 8, "before": 1, "retrained": 1, "updates": 4, "shadows": 0}
    assert len(no_samples(target.forget)) == 0
