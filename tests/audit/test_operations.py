from __future__ import annotations

import pytest
import torch
from torch import nn

from fedunlearn.audit.operations import operations_per_sample, peak_memory_bytes
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import DataError
from fedunlearn.tasks import Task


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 4, bias=False), nn.Linear(4, 3, bias=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.two(torch.relu(self.one(inputs)))


def test_two_layers_by_hand(task: Task) -> None:
    samples = Samples(torch.rand(5, 6), torch.zeros(5, dtype=torch.int64))
    model = Two()
    found = operations_per_sample(task, model, samples)
    assert found.forward == 2 * (6 * 4 + 4 * 3)
    # Back through both for the weights, and through the second for what the first put out.
    assert found.backward == 2 * (6 * 4 + 4 * 3 + 4 * 3)
    assert found.training == found.forward + found.backward
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_batch_does_not_matter(task: Task, learned: nn.Module, train: Samples) -> None:
    counted = [operations_per_sample(task, learned, train.take(range(n))) for n in (1, 8)]
    assert counted[0] == counted[1] and counted[0].forward > 1000


def test_nothing_cannot_be_counted(task: Task, learned: nn.Module, train: Samples) -> None:
    with pytest.raises(DataError, match="got none"):
        operations_per_sample(task, learned, train.take([]))


def test_memory_is_counted_in_bytes() -> None:
    before = peak_memory_bytes()
    assert 20e6 < before < 1e12
    kept = torch.ones(before // 4)  # as large as everything so far
    assert peak_memory_bytes() > before and len(kept)
