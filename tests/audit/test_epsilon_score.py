from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.audit import epsilon_score
from fedunlearn.audit.epsilon_score import (
    CAP,
    DELTA,
    epsilon,
    forgetting,
    largest_epsilon,
    null_forgetting,
    step_of,
    steps,
)
from fedunlearn.audit.metric import Gathered, Sizes, metrics
from fedunlearn.audit.subject import Subject

margins = st.lists(st.integers(0, 6), min_size=5, max_size=5)


def brute_force(unlearned: list[float], retrained: list[float]) -> float:
    """Every interval between every pair of cuts, and its outside, one after the other."""
    values = sorted({*unlearned, *retrained})
    cuts = [-math.inf, *((a + b) / 2 for a, b in pairwise(values)), math.inf]
    best = 0.0
    for low, high in combinations(cuts, 2):
        for outside in (False, True):
            false_positive = sum((low < value < high) != outside for value in retrained) / len(retrained)
            false_negative = sum((low < value < high) == outside for value in unlearned) / len(unlearned)
            if false_positive == 0 and false_negative == 0:
                return CAP
            if false_positive == 0 or false_negative == 0:
                continue
            for one, other in ((false_positive, false_negative), (false_negative, false_positive)):
                if 1 - DELTA - one > 0:
                    best = max(best, math.log(1 - DELTA - one) - math.log(other))
    return best


@given(margins, margins)
def test_is_the_best_of_all_thresholds(unlearned: list[int], retrained: list[int]) -> None:
    found = epsilon(*(torch.tensor(one, dtype=torch.float64) for one in (unlearned, retrained)))
    assert found == pytest.approx(brute_force(unlearned, retrained), abs=1e-9)


def test_worlds_apart_are_capped_and_equal_worlds_show_nothing() -> None:
    apart = torch.arange(10, dtype=torch.float64)
    assert epsilon(apart + 100, apart) == epsilon(apart, apart + 100) == CAP
    middle = torch.cat([apart[:5], apart[:5] + 100])
    assert epsilon(middle, apart + 40) == CAP
    assert epsilon(torch.zeros(10), torch.zeros(10)) == 0.0


@pytest.mark.parametrize("models", [5, 20, 64])
def test_no_finite_epsilon_is_above_the_logarithm_of_the_models_less_one(models: int) -> None:
    """One error of either kind is the least that counts."""
    low, high = torch.arange(models).double(), torch.arange(models).double() + 1000
    low[0], high[0] = 1000 + models // 2 + 0.5, models // 2 + 0.5
    assert epsilon(high, low) == pytest.approx(largest_epsilon(models), abs=1e-3)
    assert largest_epsilon(models) == math.log(models - 1)


def test_steps() -> None:
    assert steps(512) == 14 and steps(20) == 6 and steps(1) == steps(2) == 1
    assert [step_of(value, 20) for value in (0.0, 0.49, 0.5, 2.9, 3.0, CAP)] == [0, 0, 1, 5, 5, 5]
    assert forgetting([1, 0, 0]) == 1.0 and forgetting([1, 2, 1]) == pytest.approx((1 + 2 * 0.5 + 0.25) / 4)


@pytest.mark.parametrize("models", [8, 16])
def test_equal_worlds_score_what_is_drawn_for_them(models: int) -> None:
    generator = torch.Generator().manual_seed(models)
    found = [0] * steps(models)
    for _ in range(300):
        worlds = torch.randn(2, models, generator=generator, dtype=torch.float64)
        found[step_of(epsilon(*worlds), models)] += 1
    assert forgetting(found) == pytest.approx(null_forgetting(models), abs=0.03)


def test_a_final_score_is_the_product_of_the_definition() -> None:
    gathered = Gathered(
        Sizes(10, references=20, shadows=20),
        target={0: {"steps": [20, 0, 0, 0, 0, 20]}, 5: {}},
        remaining={1: {"unlearned": 90, "retrained": 100}, 2: {"unlearned": 90, "retrained": 100}},
        server={"unlearned": 80, "retrained": 100},
    )
    values = epsilon_score.combine(gathered)
    quality = (1 + 2**-5) / 2
    assert values["epsilon_score"].value == pytest.approx(quality)
    assert values["epsilon_score.final"].value == pytest.approx(quality * 0.9 * 0.8)
    assert values["epsilon_score.largest_epsilon"].value == pytest.approx(math.log(19))
    assert 0 < values["epsilon_score.null"].value < 0.3
    assert "20 samples" in epsilon_score.combine(Gathered(Sizes(10, 20, shadows=20), {0: {}}))["epsilon_score"].refused


def test_models_that_unlearned_nothing_are_told_from_retrained_ones(target: Subject, briefly) -> None:
    noise = torch.Generator().manual_seed(0)
    shadows = tuple(
        {k: v + 0.003 * torch.randn(v.shape, generator=noise) for k, v in target.model.items()} for _ in range(20)
    )
    few = replace(target, forget=target.forget.take(range(30)), retained=target.retained.take(range(30)))
    subject = replace(few, references=tuple(briefly(seed) for seed in range(20)), shadows=shadows)
    found = epsilon_score.measure(subject, torch.Generator())
    assert sum(found["steps"]) == 30 and len(found["steps"]) == epsilon_score.list_length(subject.sizes)  # type: ignore[arg-type]
    assert forgetting(found["steps"]) < null_forgetting(20)  # type: ignore[arg-type]
    remaining = epsilon_score.measure(replace(subject, role="remaining"), torch.Generator())
    right = sum(
        int((subject.evaluate(s, subject.retained).predictions == subject.retained.labels).sum()) for s in shadows
    )
    assert remaining["unlearned"] == right


def test_what_few_models_cannot_show_is_said() -> None:
    refused = metrics.get("epsilon_score").lacking({"references": 8, "shadows": 8})
    assert (
        refused is not None and "16 retrained reference models and was given 8" in refused and "log(N - 1)" in refused
    )
