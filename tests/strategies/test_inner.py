from __future__ import annotations

import random

import numpy as np
import pytest
from flwr.serverapp import strategy as flower

from fedunlearn.errors import SettingsError, UnknownName
from fedunlearn.strategies.inner import (
    STRATEGIES,
    forget_optimizer_state,
    make_strategy,
    optimizer_state,
    restore_optimizer_state,
    takes_the_mean,
)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_can_be_made_for_a_few_clients(name: str) -> None:
    made = make_strategy(name, 0.5)
    assert type(made) is STRATEGIES[name]
    assert (made.fraction_train, made.fraction_evaluate, made.min_available_nodes) == (0.5, 0.0, 1)  # type: ignore[attr-defined]


def test_options_are_read() -> None:
    made = make_strategy("fedavgm:server_momentum=0.5,server_learning_rate=2")
    assert (made.server_momentum, made.server_learning_rate) == (0.5, 2)  # type: ignore[attr-defined]
    assert make_strategy("fedadam:tau=1e-4").tau == 1e-4  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("spec", "error", "sentence"),
    [
        ("fedsgd", UnknownName, "known: bulyan, fedadagrad"),
        ("fedprox:proximal_mu=much", SettingsError, "expected NAME=NUMBER"),
        ("fedprox:proximal_mu", SettingsError, "expected NAME=NUMBER"),
        ("fedavg:momentum=1", SettingsError, "no option 'momentum'"),
        ("fedavg:self=1", SettingsError, "no option 'self'"),
    ],
)
def test_a_wrong_one_gets_a_sentence(spec: str, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        make_strategy(spec)


def test_which_are_handed_the_mean() -> None:
    assert takes_the_mean(make_strategy("fedadam"))
    assert not takes_the_mean(make_strategy("krum"))

    class Own(flower.FedAvg):
        """Somebody's own; who knows what it does with the replies."""

    assert not takes_the_mean(Own())


@pytest.mark.parametrize("name", ["fedavgm:server_momentum=0.9", "fedadam", "fedyogi", "fedadagrad"])
def test_the_state_of_an_optimiser_survives(name: str) -> None:
    first, second = make_strategy(name), make_strategy(name)
    assert optimizer_state(first) == {}
    values = [np.full(3, random.random()), np.full((2, 2), 7.0)]
    if "momentum_vector" in vars(first):
        first.momentum_vector = [np.zeros(1)] * 10 + values  # type: ignore[attr-defined]
    else:
        first.m_t = {"a/b": values[0], "c": values[1]}  # type: ignore[attr-defined]
        first.v_t = {"a/b": values[1], "c": values[0]}  # type: ignore[attr-defined]
    kept = optimizer_state(first)
    restore_optimizer_state(second, kept)
    again = optimizer_state(second)
    assert list(again) == list(kept) and len(kept) in (4, 12)
    for key, array in kept.items():
        np.testing.assert_array_equal(again[key], array)


@pytest.mark.parametrize("name", ["fedavgm:server_momentum=0.9", "fedadam", "fedyogi", "fedadagrad", "fedavg"])
def test_an_optimiser_can_forget(name: str) -> None:
    strategy = make_strategy(name)
    for attribute in ("momentum_vector", "m_t", "v_t", "current_arrays"):
        if hasattr(strategy, attribute):
            setattr(strategy, attribute, {"a": np.ones(3)} if attribute != "momentum_vector" else [np.ones(3)])
    forget_optimizer_state(strategy)
    assert vars(strategy) == vars(make_strategy(name)) and optimizer_state(strategy) == {}
