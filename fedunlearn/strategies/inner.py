"""Flower's own strategies by name, and what they need to be wrapped: one combined reply, or all of them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, TypeGuard

import numpy as np
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy

from fedunlearn.errors import SettingsError, UnknownName

STRATEGIES: Mapping[str, type[Strategy]] = {
    "fedavg": flower.FedAvg,
    "fedprox": flower.FedProx,
    "fedavgm": flower.FedAvgM,
    "fedadam": flower.FedAdam,
    "fedadagrad": flower.FedAdagrad,
    "fedyogi": flower.FedYogi,
    "fedmedian": flower.FedMedian,
    "fedtrimmedavg": flower.FedTrimmedAvg,
    "krum": flower.Krum,
    "multikrum": flower.MultiKrum,
    "bulyan": flower.Bulyan,
}

# Exactly these classes: a subclass may do something else with the single replies.
_ARE_THE_MEAN = (flower.FedAvg, flower.FedProx)
_TAKE_THE_MEAN = (
    *_ARE_THE_MEAN,
    flower.FedAvgM,
    flower.FedAdam,
    flower.FedAdagrad,
    flower.FedYogi,
)


def make_strategy(spec: str, fraction: float = 1.0) -> Strategy:
    """A Flower strategy from "NAME" or "NAME:option=number,…", say "fedprox:proximal_mu=0.1".

    Args:
        fraction: share of the available clients that a round samples.

    Raises:
        UnknownName: no strategy of that name.
        SettingsError: an option that it does not have, or not a number.
    """
    name, _, rest = spec.partition(":")
    if name not in STRATEGIES:
        raise UnknownName(f"there is no strategy called {name!r}; known: {', '.join(sorted(STRATEGIES))}.")
    kind = STRATEGIES[name]
    known = set(inspect.signature(kind.__init__).parameters) - {"self"}
    options: dict[str, Any] = {
        "fraction_train": fraction,
        "min_train_nodes": 1,
        "min_evaluate_nodes": 0,
        "min_available_nodes": 1,
    }
    for part in filter(None, rest.split(",")):
        key, _, value = part.partition("=")
        try:
            options[key] = float(value) if any(c in value for c in ".e") else int(value)
        except ValueError as error:
            raise SettingsError(f"strategy option {part!r}: expected NAME=NUMBER.") from error
        if key not in known:
            raise SettingsError(f"strategy {name!r} has no option {key!r}; known: {', '.join(sorted(known))}.")
    strategy = kind(**options)
    # Set afterwards: as an argument it makes Flower warn of what is meant. The server measures the models itself.
    strategy.fraction_evaluate = 0.0  # type: ignore[attr-defined]
    return strategy


def takes_the_mean(strategy: Strategy) -> bool:
    """Whether it needs nothing but the weighted mean of the replies, so that we may average for it."""
    return type(strategy) in _TAKE_THE_MEAN


def is_the_mean(strategy: Strategy) -> TypeGuard[flower.FedAvg]:
    """Whether the weighted mean of the replies is all that it makes of them."""
    return type(strategy) in _ARE_THE_MEAN


def optimizer_state(strategy: Strategy) -> dict[str, np.ndarray]:
    """What a server-side optimiser remembers between rounds, by name; empty for the others."""
    kept: dict[str, np.ndarray] = {}
    for attribute in ("m_t", "v_t"):
        for name, array in (getattr(strategy, attribute, None) or {}).items():
            kept[f"{attribute}/{name}"] = np.asarray(array)
    for index, array in enumerate(getattr(strategy, "momentum_vector", None) or []):
        kept[f"momentum_vector/{index:05d}"] = np.asarray(array)
    return kept


def restore_optimizer_state(strategy: Strategy, kept: Mapping[str, np.ndarray]) -> None:
    """Give `strategy` what `optimizer_state` took from it before the process ended."""
    for attribute in ("m_t", "v_t"):
        found = {k.partition("/")[2]: v for k, v in kept.items() if k.startswith(f"{attribute}/")}
        if found:
            setattr(strategy, attribute, found)
    vector = [kept[name] for name in sorted(kept) if name.startswith("momentum_vector/")]
    if vector:
        strategy.momentum_vector = vector  # type: ignore[attr-defined]


def forget_optimizer_state(strategy: Strategy) -> None:
    """Have `strategy` begin anew: what it remembers was learned with samples that the model has unlearned since."""
    # `current_arrays`: a server optimiser's last model is not the one that training goes on with now.
    for attribute in ("m_t", "v_t", "momentum_vector", "current_arrays"):
        if hasattr(strategy, attribute):
            setattr(strategy, attribute, None)
