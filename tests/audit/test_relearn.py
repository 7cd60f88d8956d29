from __future__ import annotations

import pytest
import torch
from torch import nn

from fedunlearn.audit.relearn import relearn_steps
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import DataError
from fedunlearn.tasks import Task
from fedunlearn.tasks.training import TrainingSettings, evaluate

SETTINGS = TrainingSettings(local_epochs=1, learning_rate=0.05)


def steps(task: Task, model: nn.Module, samples: Samples, threshold: float, max_epochs: int = 8) -> int | None:
    return relearn_steps(task, model, samples, SETTINGS, threshold, max_epochs, torch.Generator().manual_seed(0))


def test_what_is_known_takes_no_step(task: Task, learned: nn.Module, train: Samples) -> None:
    known = float((evaluate(task, learned, train).predictions == train.labels).double().mean())
    assert steps(task, learned, train, known) == 0


def test_what_was_never_seen_takes_many(task: Task, fresh: nn.Module, train: Samples) -> None:
    part = train.take(range(160))
    few, many = steps(task, fresh, part, 0.3, 30), steps(task, fresh, part, 0.8, 30)
    assert few is not None and many is not None and 0 < few < many


def test_giving_up_is_not_a_number(task: Task, fresh: nn.Module, train: Samples) -> None:
    assert steps(task, fresh, train.take(range(64)), 1.01, max_epochs=1) is None


def test_leaves_the_model_alone(task: Task, fresh: nn.Module, train: Samples) -> None:
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    steps(task, fresh, train.take(range(64)), 0.9, max_epochs=1)
    assert all(torch.equal(before[name], value) for name, value in fresh.state_dict().items())


def test_needs_samples(task: Task, fresh: nn.Module, train: Samples) -> None:
    with pytest.raises(DataError, match="needs samples"):
        steps(task, fresh, train.take([]), 0.5)
