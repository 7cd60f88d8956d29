from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedunlearn.config import UnlearnSettings
from fedunlearn.randomness import derive_seed
from fedunlearn.strategies.federated.orthogonal_descent import (
    orthogonal_direction,
    unlearning_cross_entropy,
    unlearning_rounds,
)
from fedunlearn.strategies.federated.weight_vectors import flatten, weight_names, with_weights
from fedunlearn.strategies.method import methods
from fedunlearn.strategies.recovery import local_recipe
from fedunlearn.tasks.training import train_locally


def cosines(direction: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    return (others @ direction).abs() / (others.norm(dim=1) * direction.norm())


def test_the_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0], [50.0, 0.0]])
    found = unlearning_cross_entropy(logits, torch.tensor([1, 0, 0])).tolist()
    assert found == pytest.approx([-math.log(1 - 0.75 / 2), -math.log(1 - 0.5 / 2), math.log(2)])


def test_the_direction_is_the_papers_formula() -> None:
    generator = torch.Generator().manual_seed(1)
    gradient = torch.randn(50, generator=generator, dtype=torch.float64)
    others = torch.randn(6, 50, generator=generator, dtype=torch.float64) * torch.tensor(
        [[1e-3], [1], [5], [1], [1], [1]]
    )
    by_formula = gradient - others.T @ (torch.linalg.pinv(others @ others.T) @ (others @ gradient))
    by_formula *= gradient.norm() / by_formula.norm()
    assert torch.allclose(orthogonal_direction(gradient, others), by_formula, atol=1e-9)


def test_a_direction_by_hand() -> None:
    others = torch.tensor([[2.0, 0.0, 0.0], [4.0, 0.0, 0.0]])
    found = orthogonal_direction(torch.tensor([3.0, 0.0, 4.0]), others)
    assert found.tolist() == pytest.approx([0.0, 0.0, 5.0])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    clients=st.integers(1, 8),
    spread=st.sampled_from([1.0, 1e-3, 1e-6, 1e-8, 0.0]),
    scale=st.sampled_from([1e-6, 1.0, 1e4]),
)
def test_no_remaining_gradient_is_touched(seed: int, clients: int, spread: float, scale: float) -> None:
    """Also where the clients' gradients are nearly, or exactly, the same."""
    generator = torch.Generator().manual_seed(seed)
    gradient = torch.randn(40, generator=generator, dtype=torch.float64)
    common = torch.randn(40, generator=generator, dtype=torch.float64)
    others = scale * (common + spread * torch.randn(clients, 40, generator=generator, dtype=torch.float64))
    found = orthogonal_direction(gradient, others)
    assert float(cosines(found, others).max()) <= 1e-5
    assert float(found.norm()) == pytest.approx(float(gradient.norm()))


def test_a_gradient_that_is_all_the_others_moves_nothing() -> None:
    others = torch.eye(3, dtype=torch.float64)[:2]
    assert not orthogonal_direction(torch.tensor([1.0, 2.0, 0.0]), others).any()
    assert orthogonal_direction(torch.ones(3), torch.zeros(2, 3)).tolist() == [1.0, 1.0, 1.0]


def test_rounds_are_shared_out() -> None:
    assert [unlearning_rounds(rounds, 0.5) for rounds in (1, 2, 3, 10)] == [1, 1, 2, 5]
    assert unlearning_rounds(4, 1.0) == 3
    assert unlearning_rounds(4, 0.0) == 1


def test_a_round_of_unlearning_is_the_plain_computation(place) -> None:
    options = UnlearnSettings(method="fedosd", rounds=1)
    state, _ = place.serve("client", options)
    names, seed = weight_names(place.model, state.layout), state.seed
    recipe = local_recipe(place.session.training, options)
    before = flatten(place.model, names)

    def gradient(client: int, message: str, number: int, loss=None) -> torch.Tensor:
        site = place.sites[client]
        own = site.load(place.model)
        samples = site.training_samples()
        if loss is not None:
            samples = site.holding.samples.take(site.forget_positions(place.jobs["client"].requests))
        generator = torch.Generator().manual_seed(derive_seed(seed, message, number, client))
        train_locally(site.task, own, samples, recipe, generator, loss=loss)
        return before - flatten(own.state_dict(), names)

    def uce(model, inputs, labels):
        return -torch.log(1 - model(inputs).softmax(1)[torch.arange(len(labels)), labels] / 2)

    target = gradient(1, "train.forget", 0, uce)
    others = torch.stack([gradient(client, "train.recover", 1) for client in place.staying])
    direction = target - others.T @ (torch.linalg.pinv(others @ others.T) @ (others @ target))
    wanted = with_weights(place.model, names, before - 0.5 * direction * target.norm() / direction.norm())
    for name in names:
        assert torch.allclose(state.model[name], wanted[name], atol=1e-6), name
    moved = before - flatten(state.model, names)
    assert float(cosines(direction, others).max()) < 1e-5
    assert float(cosines(moved, others).max()) < 1e-3  # the weights themselves are float32


def test_recovery_does_not_go_back(place) -> None:
    _, witness = place.serve("client", UnlearnSettings(method="fedosd", rounds=2))
    unlearned, recovered = (
        witness.after[i] for i, one in enumerate(witness.reports) if one.phase.message == "train.recover"
    )
    names = weight_names(place.model, unlearned.layout)
    away = flatten(unlearned.model, names) - flatten(place.model, names)
    step = flatten(recovered.model, names) - flatten(unlearned.model, names)
    assert float(away.norm()) > 0 and float(step.norm()) > 0
    assert float((away @ step).abs() / (away.norm() * step.norm())) < 1e-4


def test_a_target_that_is_away_later_is_gone_without(place) -> None:
    settings = UnlearnSettings(method="fedosd", rounds=2)
    state = place.state("client", settings)
    moved = replace(state, model={name: tensor + 1 for name, tensor in state.model.items()})
    around = methods.get("fedosd").phases(settings, 2)[1]
    assert around.combine(moved, []) is moved
