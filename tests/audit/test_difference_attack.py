from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from sklearn.metrics import roc_auc_score

from fedunlearn.audit import difference_attack
from fedunlearn.audit.difference_attack import RISE_EDGES, rises
from fedunlearn.audit.metric import Gathered
from fedunlearn.audit.score_attack import values_of
from fedunlearn.audit.subject import Subject
from fedunlearn.errors import DataError


def test_the_edges_ascend_and_mirror() -> None:
    assert list(RISE_EDGES) == sorted(RISE_EDGES) and len(set(RISE_EDGES)) == len(RISE_EDGES)
    assert [-edge for edge in reversed(RISE_EDGES)] == list(RISE_EDGES)


def test_a_rise_is_after_less_before() -> None:
    before, after = torch.tensor([0.5, math.inf, 1.0, math.inf]), torch.tensor([2.0, math.inf, math.inf, 1.0])
    assert rises(before, after).tolist() == [1.5, 0.0, math.inf, -math.inf]


def test_is_the_area_under_the_curve_of_the_rises(target: Subject, server: Subject) -> None:
    """The model before had learned the forget set; the one after never saw it."""
    before, after = target.model, target.retrained
    assert after is not None
    forget, unseen = target.forget, server.held_out
    sides = [replace(side, before=before, model=after) for side in (target, server)]
    findings = [difference_attack.measure(side, torch.Generator().manual_seed(0)) for side in sides]
    rise = [
        rises(target.evaluate(before, samples).losses, target.evaluate(after, samples).losses)
        for samples in (forget, unseen)
    ]
    exact = roc_auc_score([1] * len(forget) + [0] * len(unseen), torch.cat(rise).numpy())
    flat = findings[1]["unseen"]
    length = len(RISE_EDGES) + 1
    pooled = [sum(flat[k * length + b] for k in range(10)) for b in range(length)]  # type: ignore[index]
    found = values_of("a", findings[0]["members"], pooled)  # type: ignore[arg-type]
    bound = found["a.binning"].value
    assert bound is not None and bound < 0.1
    assert found["a"].value == pytest.approx(exact, abs=bound)
    values = difference_attack.combine(Gathered(target.sizes, {0: findings[0]}, server=findings[1]))
    assert values["difference_attack"].value is not None and values["difference_attack"].value > 0.51


def test_an_unchanged_model_gives_nothing_away(target: Subject, server: Subject) -> None:
    findings = [difference_attack.measure(side, torch.Generator().manual_seed(0)) for side in (target, server)]
    values = difference_attack.combine(Gathered(target.sizes, {0: findings[0]}, server=findings[1]))
    assert values["difference_attack"].value == 0.5


def test_both_models_are_needed(target: Subject) -> None:
    with pytest.raises(DataError, match="model before"):
        difference_attack.measure(replace(target, before=None), torch.Generator())
