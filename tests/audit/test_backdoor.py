from __future__ import annotations

import pytest
import torch

from fedunlearn.audit import backdoor
from fedunlearn.audit.counts import add


def test_samples_of_the_target_class_do_not_count() -> None:
    predictions = torch.tensor([0, 0, 0, 1, 2])
    labels = torch.tensor([0, 1, 2, 1, 0])
    counts = backdoor.count(predictions, labels, target=0)
    assert counts == {"hits": 2, "shown": 3}
    assert backdoor.combine(counts) == pytest.approx(2 / 3)


def test_a_perfect_classifier_has_no_success() -> None:
    labels = torch.arange(10).repeat(5)
    assert backdoor.combine(backdoor.count(labels, labels, target=3)) == 0.0


def test_only_target_samples_show_nothing() -> None:
    zeros = torch.zeros(4, dtype=torch.int64)
    assert backdoor.combine(backdoor.count(zeros, zeros, target=0)) is None


def test_clients_add_up() -> None:
    total = add([{"hits": 1, "shown": 2}, {"hits": 3, "shown": 8}])
    assert total is not None
    assert backdoor.combine(total) == pytest.approx(0.4)
