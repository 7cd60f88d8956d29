from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedunlearn.channels.packing import digest_state
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import SettingsError
from fedunlearn.strategies.federated.rapid_retraining import FisherDescent, block_means
from fedunlearn.strategies.method import methods
from fedunlearn.tasks.training import TrainingSettings, evaluate, train_locally


def test_blocks_by_hand() -> None:
    assert block_means(torch.tensor([[1.0, 2.0, 3.0], [4.0, 6.0, 10.0]]), 4).tolist() == [
        [2.5, 2.5, 2.5],
        [2.5, 8.0, 8.0],
    ]
    assert block_means(torch.tensor([1.0, 2.0, 3.0]), 1).tolist() == [1.0, 2.0, 3.0]
    assert block_means(torch.tensor([1.0, 3.0]), 3).tolist() == [2.0, 2.0]


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_two_steps_by_hand(power: float) -> None:
    weights = torch.tensor([1.0, -1.0, 2.0, 0.5], requires_grad=True)
    optimizer = FisherDescent([weights], rate=0.01, block=2, power=power)
    gradients = np.array([[1.0, 3.0, -2.0, 2.0], [2.0, 0.0, 1.0, -1.0]])
    wanted, mean, information = np.array([1.0, -1.0, 2.0, 0.5]), np.zeros(4), np.zeros(4)
    for number, gradient in enumerate(gradients, start=1):
        weights.grad = torch.tensor(gradient, dtype=torch.float32)
        optimizer.step()
        squares = np.repeat((gradient**2).reshape(2, 2).mean(axis=1), 2)
        mean = 0.9 * mean + 0.1 * gradient
        information = 0.999 * information + 0.001 * squares**2
        corrected = np.sqrt(information / (1 - 0.999**number))
        wanted -= 0.01 * mean / (1 - 0.9**number) / (corrected**power + 1e-8)
    assert weights.tolist() == pytest.approx(wanted.tolist(), rel=1e-5)


def test_another_optimiser_replaces_the_descent_and_nothing_else(make_work) -> None:
    work = make_work()
    settings = TrainingSettings(2, 0.1, momentum=0.5, batch_size=16)

    def trained(**options):
        model = copy.deepcopy(work.model)
        train_locally(work.task, model, work.retain, settings, torch.Generator().manual_seed(1), **options)
        return model.state_dict()

    same = trained(make_optimizer=lambda leaves: torch.optim.SGD(leaves, lr=0.1, momentum=0.5))
    other = trained(make_optimizer=lambda leaves: FisherDescent(leaves))
    assert digest_state(trained()) == digest_state(same) != digest_state(other)


def test_it_learns_from_fresh_weights(place) -> None:
    settings = UnlearnSettings(method="rapid-retraining", rounds=2, local_epochs=4, options={"step": 0.003})
    state, _ = place.serve("client", settings)
    site = place.sites[0]
    losses = [
        float(evaluate(site.task, site.load(model), site.training_samples()).losses.mean())
        for model in (state.fresh, state.model)
    ]
    assert losses[1] < 0.8 * losses[0]
    other = {name: torch.randn(tensor.shape) for name, tensor in place.model.items()}
    assert digest_state(replace(place, model=other).serve("client", settings)[0].model) == digest_state(state.model)


@pytest.mark.parametrize("options", [{"step": 0}, {"block": 0}, {"power": 1.5}])
def test_options_are_checked(options) -> None:
    with pytest.raises(SettingsError, match="expected a"):
        methods.get("rapid-retraining").phases(UnlearnSettings(options=options), 2)
