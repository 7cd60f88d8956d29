"""A small real task and a model that learned it, shared by the audits that need one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fedunlearn.data.dataset import Dataset, Samples
from fedunlearn.tasks import Task, get_task
from fedunlearn.tasks.training import TrainingSettings, train_locally


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def task() -> Task:
    return get_task("digits")


@pytest.fixture(scope="session")
def dataset(task: Task) -> Dataset:
    return task.dataset(0)


@pytest.fixture(scope="session")
def train(dataset: Dataset) -> Samples:
    return dataset.train.take(np.arange(600))


@pytest.fixture(scope="session")
def fresh(task: Task, dataset: Dataset) -> nn.Module:
    return task.build(None, 1, dataset)


@pytest.fixture(scope="session")
def learned(task: Task, dataset: Dataset, train: Samples) -> nn.Module:
    model = task.build(None, 0, dataset)
    settings = TrainingSettings(local_epochs=6, learning_rate=0.05)
    train_locally(task, model, train, settings, torch.Generator().manual_seed(0))
    return model
