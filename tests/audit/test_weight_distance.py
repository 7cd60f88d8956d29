from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from fedunlearn.audit import weight_distance as family
from fedunlearn.audit.metric import Gathered, metrics
from fedunlearn.audit.subject import Subject
from fedunlearn.audit.weight_distance import weight_distance
from fedunlearn.errors import DataError


def state(one: float, two: float, steps: int = 3) -> dict[str, torch.Tensor]:
    return {"a": torch.tensor([one, 0.0]), "b": torch.tensor([[two]]), "counter": torch.tensor(steps)}


def test_by_hand() -> None:
    found = weight_distance(state(0.0, 0.0), [state(3.0, 4.0, 9), state(0.0, 0.0, 9)])
    # Distances 5 and 0 to the two, which are 5 apart; the counter counts nothing.
    assert found.overall == pytest.approx(2.5) and found.between_retrained == pytest.approx(5.0)
    assert found.ratio == pytest.approx(0.5)
    assert found.by_tensor == {"a": pytest.approx(1.5), "b": pytest.approx(2.0)}


def test_a_retrained_model_has_a_ratio_of_about_one() -> None:
    draw = torch.Generator().manual_seed(0)
    states = [{"w": torch.randn(10_000, generator=draw)} for _ in range(5)]
    found = weight_distance(states[0], states[1:])
    assert found.ratio == pytest.approx(1.0, abs=0.02)
    assert found.overall == pytest.approx(math.sqrt(2 * 10_000), rel=0.02)


def test_one_retrained_model_gives_no_ratio_and_none_no_distance() -> None:
    found = weight_distance(state(1.0, 1.0), [state(0.0, 0.0)])
    assert found.ratio is None and found.between_retrained is None
    with pytest.raises(DataError, match="needs one retrained model"):
        weight_distance(state(1.0, 1.0), [])


def test_models_of_other_networks_are_refused() -> None:
    with pytest.raises(DataError, match="different tensors"):
        weight_distance(state(1.0, 1.0), [{"a": torch.zeros(2)}])


def test_the_metric(server: Subject) -> None:
    found = family.measure(server, torch.Generator())
    values = family.combine(Gathered(server.sizes, server=found))
    assert set(values) == set(metrics.get("weight_distance").values)
    expected = weight_distance(server.model, server.references)
    assert values["weight_distance"].value == pytest.approx(expected.ratio)
    same = replace(server, references=(server.model, server.model))
    refused = family.combine(Gathered(server.sizes, server=family.measure(same, torch.Generator())))
    assert refused["weight_distance"].value is None and "one and the same" in refused["weight_distance"].refused
