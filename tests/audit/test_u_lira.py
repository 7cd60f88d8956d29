from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm

from fedunlearn.audit import u_lira
from fedunlearn.audit.metric import Gathered, Sizes
from fedunlearn.audit.subject import Subject
from fedunlearn.audit.u_lira import RATIO_EDGES, log_ratios


@pytest.mark.parametrize("models", [8, 64])
def test_is_the_ratio_of_two_gaussians(models: int) -> None:
    generator = torch.Generator().manual_seed(models)
    own = torch.linspace(-2, 3, 12, dtype=torch.float64)
    worlds = [torch.randn(models, 12, generator=generator, dtype=torch.float64) * s + m for m, s in ((1, 0.5), (0, 2))]
    expected = 0.0
    for sign, world in zip((1, -1), worlds, strict=True):
        values = world.numpy()
        deviation = values.std(axis=0, ddof=1)
        if models < 64:
            deviation = np.sqrt((deviation**2).mean())
        expected = expected + sign * norm.logpdf(own.numpy(), values.mean(axis=0), deviation)
    assert log_ratios(own, *worlds).numpy() == pytest.approx(expected)


def gathered(unlearned: list[int], retrained: list[int], **others: dict) -> Gathered:
    return Gathered(Sizes(10, 8, 8), {0: {"unlearned": unlearned, "retrained": retrained}}, **others)


def test_values_count_both_models() -> None:
    below, above = [0] * 300, [0] * 300
    zero = RATIO_EDGES.index(0.0)
    below[zero], above[zero + 1] = 1, 1
    mixed = [30 * a + 10 * b for a, b in zip(above, below, strict=True)]
    other = [15 * a + 25 * b for a, b in zip(above, below, strict=True)]
    values = u_lira.combine(gathered(mixed, other))
    assert values["u_lira_auc.accuracy"].value == pytest.approx((30 / 40 + 25 / 40) / 2)
    assert values["u_lira_auc.accuracy"].of == 80
    assert values["u_lira_auc"].value == pytest.approx(0.75 * 0.625 + 0.5 * (0.75 * 0.375 + 0.25 * 0.625))
    assert values["u_lira_auc.retained"].value is None
    same = {"unlearned": mixed, "retrained": mixed}
    assert u_lira.combine(gathered(mixed, other, remaining={1: same, 2: {}}))["u_lira_auc.retained"].value == 0.5
    assert "20 samples" in u_lira.combine(Gathered(Sizes(10), {0: {}}))["u_lira_auc"].refused


def test_a_model_that_unlearned_nothing_is_recognised_and_a_retrained_one_is_not(target: Subject, briefly) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.Generator().manual_seed(1)

    def disturbed() -> dict:
        return {k: v + 0.003 * torch.randn(v.shape, generator=noise) for k, v in target.model.items()}

    idle = replace(target, shadows=tuple(disturbed() for _ in range(8)))
    found = u_lira.combine(Gathered(idle.sizes, {0: u_lira.measure(idle, generator)}))
    assert found["u_lira_auc"].value > 0.95 and found["u_lira_auc.accuracy"].value > 0.9
    judged = replace(idle, model=briefly(101))
    found = u_lira.combine(Gathered(judged.sizes, {0: u_lira.measure(judged, generator)}))
    assert found["u_lira_auc"].value < 0.75 and found["u_lira_auc.accuracy"].value < 0.6


def test_few_samples_are_withheld(target: Subject) -> None:
    few = replace(target, forget=target.forget.take(np.arange(19)))
    assert u_lira.measure(few, torch.Generator()) == {}
