from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from fedunlearn.audit import agreement
from fedunlearn.audit.agreement import combine, count, distances, divergences
from fedunlearn.audit.counts import add
from fedunlearn.audit.metric import Gathered, metrics
from fedunlearn.audit.subject import Subject


def random_logits(seed: int, samples: int = 40, classes: int = 5) -> torch.Tensor:
    return 3 * torch.randn(samples, classes, generator=torch.Generator().manual_seed(seed))


def test_is_scipys_divergence_and_numpys_distance() -> None:
    one, other = random_logits(0), random_logits(1)
    p, q = (np.asarray(each.double().softmax(dim=1)) for each in (one, other))
    # scipy gives the root of the divergence, in nats.
    expected = [jensenshannon(a, b) ** 2 for a, b in zip(p, q, strict=True)]
    assert divergences(one, other).numpy() == pytest.approx(expected, rel=1e-9)
    assert distances(one, other).numpy() == pytest.approx(np.linalg.norm(p - q, axis=1))


def test_two_certain_and_different_answers_are_as_far_apart_as_it_goes() -> None:
    one, other = torch.tensor([[500.0, -500.0]]), torch.tensor([[-500.0, 500.0]])
    assert float(divergences(one, other)) == pytest.approx(math.log(2))
    assert float(distances(one, other)) == pytest.approx(math.sqrt(2))


def test_a_pair_of_shares_by_hand() -> None:
    one, other = (torch.tensor([shares]).double().log() for shares in ([0.5, 0.5], [0.9, 0.1]))
    middle = (0.7, 0.3)
    left = 0.5 * math.log(0.5 / middle[0]) + 0.5 * math.log(0.5 / middle[1])
    right = 0.9 * math.log(0.9 / middle[0]) + 0.1 * math.log(0.1 / middle[1])
    assert float(divergences(one, other)) == pytest.approx((left + right) / 2)


@given(st.integers(0, 1000), st.integers(0, 1000), st.sampled_from([2, 10, 100]))
def test_it_is_symmetric_and_bounded_and_no_mean_over_the_classes(one: int, other: int, classes: int) -> None:
    left, right = random_logits(one, 4, classes), random_logits(other, 4, classes)
    found = divergences(left, right)
    assert torch.allclose(found, divergences(right, left))
    assert bool((found >= 0).all()) and bool((found <= math.log(2) + 1e-12).all())
    if one == other:
        assert float(found.max()) == pytest.approx(0.0, abs=1e-12)


def test_sums_of_two_clients_are_the_figures_of_all_samples() -> None:
    one, other = random_logits(2, 60), random_logits(3, 60)
    parts = [count(one[part], other[part]) for part in (slice(0, 25), slice(25, 60), slice(0, 0))]
    found, whole = combine(add(parts)), combine(count(one, other))
    assert found is not None and whole is not None
    assert found.divergence == pytest.approx(whole.divergence)
    assert (
        found.completeness
        == whole.completeness
        == pytest.approx(float((one.argmax(1) == other.argmax(1)).double().mean()))
    )
    assert parts[2] is None and combine(None) is None


def test_a_few_samples_are_withheld() -> None:
    assert count(random_logits(0, 19), random_logits(1, 19)) is None


def test_a_model_agrees_with_itself(target: Subject, server: Subject) -> None:
    from dataclasses import replace

    same = [replace(side, retrained=side.model) for side in (target, server)]
    findings = [agreement.measure(side, torch.Generator()) for side in same]
    values = agreement.combine_findings(Gathered(target.sizes, {0: findings[0]}, server=findings[1]))
    assert set(values) == set(metrics.get("agreement").values)
    assert [values[name].value for name in values] == [1.0, pytest.approx(0), pytest.approx(0), 1.0]
    assert values["agreement"].of == 200 and values["agreement.on_test_set"].of == len(server.held_out)
