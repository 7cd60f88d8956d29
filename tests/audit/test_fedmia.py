from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy.stats import norm

from fedunlearn.audit import fedmia
from fedunlearn.audit.fedmia import scores
from fedunlearn.audit.metric import Gathered
from fedunlearn.audit.subject import Subject
from fedunlearn.data.dataset import Dataset, Samples
from fedunlearn.tasks.training import TrainingSettings, train_locally


def test_is_the_gaussian_of_the_other_clients_losses() -> None:
    others = torch.rand(5, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1
    own = torch.linspace(0, 3, 20, dtype=torch.float64)
    # The paper's score: how probable a larger loss is in a world that did not learn the sample.
    expected = norm.sf(own.numpy(), others.mean(dim=0).numpy(), others.std(dim=0).numpy())
    assert norm.cdf(scores(own, others).numpy()) == pytest.approx(expected)


def test_equal_losses_are_no_division_by_zero() -> None:
    assert scores(torch.ones(3), torch.ones(4, 3)).tolist() == [0.0, 0.0, 0.0]


def test_what_others_train_away_was_remembered(target: Subject, server: Subject, dataset: Dataset) -> None:
    """A model learned wrong labels by heart; one round of clients that hold other samples gives that away."""
    wrong = Samples(target.forget.inputs[:100], (target.forget.labels[:100] + 1) % 10)
    network = target.network(target.references[0])
    both = Samples.concat([wrong, target.retained])
    recipe = TrainingSettings(local_epochs=15, learning_rate=0.05)
    train_locally(target.task, network, both, recipe, torch.Generator().manual_seed(0))
    model, updates = dict(network.state_dict()), []
    for client in range(4):
        update = target.network(model)
        own = dataset.train.take(range(900 + 60 * client, 960 + 60 * client))
        train_locally(target.task, update, own, target.training, torch.Generator().manual_seed(client))
        updates.append(dict(update.state_dict()))
    states = {"model": model, "updates": tuple(updates)}
    inside, outside = replace(target, forget=wrong, parts=target.parts[:100], **states), replace(server, **states)
    generator = torch.Generator().manual_seed(0)
    findings = fedmia.measure(inside, generator), fedmia.measure(outside, generator)
    values = fedmia.combine(Gathered(inside.sizes, {0: findings[0]}, server=findings[1]))
    own, others = (_all_scores(side, s) for side, s in ((inside, wrong), (outside, outside.held_out)))
    exact = float((own[:, None] > others[None]).double().mean())
    assert values["fedmia_auc"].value is not None and values["fedmia_auc"].value > 0.6
    assert values["fedmia_auc"].value == pytest.approx(exact, abs=0.05)


def _all_scores(side: Subject, samples: Samples) -> torch.Tensor:
    others = [side.evaluate(state, samples).losses for state in side.updates]
    return scores(side.evaluate(side.model, samples).losses, torch.stack(others))
