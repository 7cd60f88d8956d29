"""A small real task and a model that learned it, shared by the audits that need one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from fedunlearn.audit.subject import Subject, no_samples
from fedunlearn.channels.layout import channel_layout
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


State = Mapping[str, torch.Tensor]
Briefly = Callable[[int], State]


@pytest.fixture(scope="session")
def briefly(task: Task, dataset: Dataset) -> Briefly:
    """`briefly(seed)`: the state of a model that saw other samples than `train`, once."""
    settings, others = TrainingSettings(local_epochs=1, learning_rate=0.05), dataset.train.take(np.arange(600, 800))
    known: dict[int, State] = {}

    def state(seed: int) -> State:
        if seed not in known:
            model = task.build(None, seed, dataset)
            train_locally(task, model, others, settings, torch.Generator().manual_seed(seed))
            known[seed] = dict(model.state_dict())
        return known[seed]

    return state


@pytest.fixture(scope="session")
def target(task: Task, dataset: Dataset, train: Samples, learned: nn.Module, briefly: Briefly) -> Subject:
    """A target that holds 200 of the samples that the audited model learned, and 100 that no model saw."""
    forget = train.take(np.arange(200))
    return Subject(
        role="target",
        task=task,
        blank=task.build(None, 0, dataset),
        classes=10,
        layout=channel_layout(learned, task.inputs(dataset.test.inputs[:2])),
        training=TrainingSettings(local_epochs=1, learning_rate=0.05),
        model={name: value.clone() for name, value in learned.state_dict().items()},
        forget=forget,
        retained=train.take(np.arange(200, 600)),
        held_out=dataset.train.take(np.arange(800, 900)),
        parts=np.full(200, "ordinary"),
        true_labels=forget.labels,
        references=tuple(briefly(seed) for seed in range(8)),
        before={name: value.clone() for name, value in learned.state_dict().items()},
        retrained=briefly(100),
        updates=tuple(briefly(seed) for seed in range(200, 204)),
    )


@pytest.fixture(scope="session")
def server(target: Subject, dataset: Dataset) -> Subject:
    """The server's side of the same audit."""
    nothing = no_samples(dataset.test)
    return replace(
        target,
        role="server",
        forget=nothing,
        retained=nothing,
        held_out=dataset.test,
        parts=target.parts[:0],
        true_labels=target.true_labels[:0],
    )


@dataclass(frozen=True)
class Completion:
    """The same on a task that answers with images."""

    target: Subject
    server: Subject
    briefly: Briefly


@pytest.fixture(scope="session")
def completion(target: Subject, server: Subject) -> Completion:
    """Images of 8x8 pixels whose centre is filled in, and a model that learned to for a few passes."""
    task = get_task("inpainting:digits")
    dataset = task.dataset(0)
    recipe, known = TrainingSettings(local_epochs=4, learning_rate=0.1), dict[int, State]()

    def trained(seed: int, samples: Samples, settings: TrainingSettings) -> State:
        model = task.build("auto-encoder-small", seed, dataset)
        train_locally(task, model, samples, settings, torch.Generator().manual_seed(seed))
        return dict(model.state_dict())

    def briefly(seed: int) -> State:
        # Metrics of images look at one or two of them.
        seed = seed % 3
        if seed not in known:
            known[seed] = trained(seed, dataset.train.take(np.arange(600, 700)), replace(recipe, local_epochs=1))
        return known[seed]

    learned = trained(0, dataset.train.take(np.arange(600)), recipe)
    blank = task.build("auto-encoder-small", 0, dataset)
    layout = channel_layout(blank, task.degrade(task.inputs(dataset.test.inputs[:2])))
    own = {"task": task, "blank": blank, "layout": layout, "model": learned, "before": learned}
    others = {"references": tuple(briefly(seed) for seed in range(2)), "retrained": briefly(2), "updates": ()}
    return Completion(replace(target, **own, **others), replace(server, **own, **others), briefly)
