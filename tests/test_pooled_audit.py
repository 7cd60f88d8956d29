"""Audits on pooled data: whose samples they are, and what they say of models that know them or do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fedunlearn.clients.filing import file_request
from fedunlearn.config import FederationSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.data.holding import holding
from fedunlearn.errors import RequestError
from fedunlearn.pooled_audit import mostly_held_classes, pooled_audit
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.session import Session
from fedunlearn.strategies.method import ModelState
from fedunlearn.tasks.randomness import seeded_generator
from fedunlearn.tasks.training import TrainingSettings, train_locally

SETTINGS = FederationSettings(task="digits", clients=3, partition="dirichlet:0.5", local_epochs=1)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    folder = RunFolder.create(tmp_path_factory.mktemp("pooled") / "run", SETTINGS)
    return Session(folder)


@pytest.fixture(scope="module")
def everywhere(session: Session) -> str:
    """A request of all holders of class 3."""
    for client in range(3):
        own = holding(SETTINGS, client, session.dataset)
        if 3 in own.classes_held():
            file_request(session.folder.client(client), own, classes=[3], everywhere="class-3")
    return "class-3"


def trained(session: Session, samples: Samples, epochs: int) -> ModelState:
    model = session.task.build(None, 0, session.dataset)
    recipe = TrainingSettings(local_epochs=epochs, learning_rate=0.05)
    train_locally(session.task, model, samples, recipe, seeded_generator(0, "test"))
    return dict(model.state_dict())


@pytest.fixture(scope="module")
def knows(session: Session) -> ModelState:
    return trained(session, session.dataset.train, epochs=6)


def test_a_model_that_never_saw_the_class_has_to_relearn_it(
    session: Session, everywhere: str, knows: ModelState
) -> None:
    others = session.dataset.train.take(np.flatnonzero(session.dataset.train.labels.numpy() != 3))
    never = trained(session, others, epochs=6)
    found = pooled_audit(session, [everywhere], knows, knows, [3])
    assert found["relearn_steps"] == 0
    assert found["probe_accuracy"] > 0.8
    unaware = pooled_audit(session, [everywhere], knows, never, [3])
    assert unaware["relearn_steps"] > 0
    assert 0 <= unaware["probe_accuracy"] <= 1


def test_zeroing_the_output_unit_hides_nothing_from_the_probe(
    session: Session, everywhere: str, knows: ModelState
) -> None:
    cheat = {name: tensor.clone() for name, tensor in knows.items()}
    for name in session.architecture.layout.output:
        cheat[name][3] = -100.0 if cheat[name].dim() == 1 else 0.0
    honest, cheated = (pooled_audit(session, [everywhere], knows, one, [3]) for one in (knows, cheat))
    assert cheated["probe_accuracy"] == honest["probe_accuracy"]
    assert cheated["relearn_steps"] != 0


def test_the_audit_leaves_models_alone_and_is_the_same_twice(
    session: Session, everywhere: str, knows: ModelState
) -> None:
    before = {name: tensor.clone() for name, tensor in knows.items()}
    state = torch.random.get_rng_state()
    first = pooled_audit(session, [everywhere], knows, knows, [])
    assert first == pooled_audit(session, [everywhere], knows, knows, [])
    assert all(torch.equal(before[name], tensor) for name, tensor in knows.items())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_request_that_nobody_filed_is_told(session: Session, everywhere: str, knows: ModelState) -> None:
    with pytest.raises(RequestError, match="holds the request client-9-1"):
        pooled_audit(session, ["client-9-1"], knows, knows, [])


def test_classes_that_were_mostly_the_leaving_ones_are_named(tmp_path: Path) -> None:
    session = Session(RunFolder.create(tmp_path / "run", SETTINGS))
    dataset = session.dataset
    own = holding(SETTINGS, 0, dataset)
    filed = file_request(session.folder.client(0), own)
    total = dataset.train.labels.bincount(minlength=10)
    held = own.true_labels.bincount(minlength=10)
    expected = [dataset.classes[c] for c in range(10) if held[c] >= 0.5 * total[c]]
    assert expected, "the partition must give this client half of a class"
    assert mostly_held_classes(session, [filed.id]) == expected
    assert mostly_held_classes(session, [filed.id], share=1.01) == []
    assert mostly_held_classes(session, ["another"]) == []
