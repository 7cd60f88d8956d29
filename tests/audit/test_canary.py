from __future__ import annotations

import itertools
import math
import statistics

import pytest
import torch

from fedunlearn.audit import canary
from fedunlearn.errors import DataError


def test_exposure_by_hand() -> None:
    logits = torch.tensor([[9.0, 3.0, 2.0, 1.0, 2.0]]).repeat(4, 1)
    labels = torch.tensor([1, 3, 2, 0])
    true_labels = torch.tensor([0, 0, 0, 1])
    values = canary.exposures(logits, true_labels, labels)
    # Others for label 2: {1, 3, 4}: above, below, tie. For label 0 with the true label 1: all three below.
    assert values.tolist() == pytest.approx([1.0, 0.0, 0.5, 1.0])


def test_agrees_with_a_naive_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(-3, 4, (60, 10), generator=generator).double()
    true_labels = torch.randint(10, (60,), generator=generator)
    labels = (true_labels + torch.randint(1, 10, (60,), generator=generator)) % 10
    naive = []
    for row, true, own in zip(logits, true_labels.tolist(), labels.tolist(), strict=True):
        others = [row[k] for k in range(10) if k not in (true, own)]
        naive.append(sum(1.0 if o < row[own] else 0.5 if o == row[own] else 0.0 for o in others) / 8)
    assert canary.exposures(logits, true_labels, labels).tolist() == pytest.approx(naive)


def test_null_variance_is_exact() -> None:
    assert canary.null_standard_error(114, 10) == pytest.approx(math.sqrt(80 / (768 * 114)))
    for classes in (3, 4, 7, 10):
        # Every rank of the drawn label among the K - 1 wrong ones is equally likely.
        values = [rank / (classes - 2) for rank in range(classes - 1)]
        assert statistics.mean(values) == pytest.approx(0.5)
        assert canary.null_standard_error(1, classes) ** 2 == pytest.approx(statistics.pvariance(values))


def test_null_mean_and_variance_over_all_labels() -> None:
    logits = torch.tensor([[0.3, 2.0, -1.0, 0.7, 5.0]])
    values = [
        float(canary.exposures(logits, torch.tensor([true]), torch.tensor([own])))
        for true, own in itertools.permutations(range(5), 2)
    ]
    assert statistics.mean(values) == pytest.approx(0.5)


def test_combined_over_clients() -> None:
    logits = torch.eye(4).repeat(10, 1)
    labels = torch.arange(4).repeat(10)
    counts = canary.count(logits, (labels + 1) % 4, labels)
    assert counts == {"sum": 40.0, "samples": 40}
    result = canary.combine(counts, classes=4)
    assert result is not None
    assert result.mean == 1.0
    assert result.z == pytest.approx(0.5 / math.sqrt(4 / (24 * 40)))


def test_few_canaries_are_withheld() -> None:
    logits, labels = torch.eye(4), torch.arange(4)
    assert canary.count(logits, (labels + 1) % 4, labels) is None
    assert canary.combine(None, classes=4) is None


def test_bad_canaries_are_refused() -> None:
    labels = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(DataError, match="three classes"):
        canary.exposures(torch.zeros(3, 2), labels, labels + 1)
    with pytest.raises(DataError, match="true one"):
        canary.exposures(torch.zeros(3, 4), labels, labels)
    with pytest.raises(DataError, match="one canary"):
        canary.null_standard_error(0, 10)
