from __future__ import annotations

import pytest
import torch

from fedunlearn.audit import accuracy
from fedunlearn.audit.counts import add
from fedunlearn.errors import DataError


def test_counts_by_hand() -> None:
    counts = accuracy.count(torch.tensor([0, 1, 1, 2, 0]), torch.tensor([0, 1, 2, 2, 1]), classes=4)
    assert counts == {"correct": [1, 1, 1, 0], "total": [1, 2, 2, 0]}
    result = accuracy.combine(counts)
    assert result.overall == pytest.approx(3 / 5)
    assert result.by_class == (1.0, 0.5, 0.5, None)
    assert result.samples == 5
    assert result.over([0, 1]) == pytest.approx(0.75)
    assert result.over([3]) is None


def test_split_over_clients_equals_one_pass() -> None:
    generator = torch.Generator().manual_seed(0)
    predictions = torch.randint(5, (101,), generator=generator)
    labels = torch.randint(5, (101,), generator=generator)
    whole = accuracy.count(predictions, labels, 5)
    halves = add(accuracy.count(p, y, 5) for p, y in zip(predictions.split(40), labels.split(40), strict=True))
    assert halves == whole
    assert accuracy.combine(whole).overall == pytest.approx(float((predictions == labels).double().mean()))


def test_no_samples_is_not_zero() -> None:
    empty = torch.tensor([], dtype=torch.int64)
    assert accuracy.combine(accuracy.count(empty, empty, 3)).overall is None


def test_lengths_must_agree() -> None:
    with pytest.raises(DataError, match="2 predictions, 1 labels"):
        accuracy.count(torch.tensor([0, 1]), torch.tensor([0]), 2)
