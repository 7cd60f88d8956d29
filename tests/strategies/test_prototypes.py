from __future__ import annotations

import pytest
import torch

from fedunlearn.strategies.prototypes import means


def test_means_by_hand() -> None:
    sums = torch.tensor([[6.0, 8.0, 2.0], [0.0, 0.0, 0.0], [1.0, 5.0, 1.0]])
    found, known = means(sums)
    assert found.tolist() == [[3.0, 4.0], [0.0, 0.0], [1.0, 5.0]]
    assert known.tolist() == [True, False, True]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_how_samples_are_shared_out_changes_nothing(order: list[int]) -> None:
    parts = torch.arange(18.0).reshape(3, 2, 3) + 1
    whole, _ = means(parts.sum(dim=0))
    again, _ = means(parts[order].sum(dim=0))
    assert torch.allclose(whole, again)
