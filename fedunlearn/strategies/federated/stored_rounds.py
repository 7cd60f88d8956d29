"""What methods make of the updates that the server kept: means over clients, sums over rounds, without the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from fedunlearn.errors import RequestError
from fedunlearn.strategies.centralised.importance import is_weight
from fedunlearn.strategies.controls import say_how_many
from fedunlearn.strategies.federated.weight_vectors import flatten, with_weights
from fedunlearn.strategies.history import StoredUpdate
from fedunlearn.strategies.method import ClientReply, Down, ModelState, Phase, State
from fedunlearn.strategies.running_mean import RunningMean


def at_the_server(compute: Callable[[State], State]) -> Phase:
    """A phase in which only the server computes: those who stay are asked for nothing but their number of samples."""

    def combine(state: State, replies: Sequence[ClientReply]) -> State:
        with one_thread():
            return compute(state)

    return Phase("query.count", "remaining", lambda state: Down(), say_how_many, combine)


def retained_updates(state: State, number: int) -> Iterator[StoredUpdate]:
    """What the clients that stay sent in a kept round."""
    return (one for one in state.history.updates(number) if one.client not in state.targets)


def retained_mean(state: State, number: int) -> ModelState:
    """The mean, weighted by samples, of the models that those who stay sent in a kept round.

    Raises RequestError where only targets took part in it.
    """
    mean: RunningMean | None = None
    for update in retained_updates(state, number):
        arrays = {name: tensor.numpy() for name, tensor in update.model.items()}
        mean = mean or RunningMean(arrays)
        mean.add(arrays, update.weight, f"client {update.client}")
    if mean is None:
        raise RequestError(
            f"nobody who stays took part in round {number}, so that it cannot be replayed; use another method."
        )
    return {name: torch.from_numpy(np.asarray(array)) for name, array in mean.result().items()}


def floating(model: ModelState) -> list[str]:
    """Names of the tensors that are trained, in the model's order.

    Statistics of normalisation layers are no sum of contributions: subtracted or dampened, a variance is none any more.
    """
    return [name for name, tensor in model.items() if is_weight(name, tensor)]


def flat(model: ModelState) -> Tensor:
    """All trained values of a model as one vector."""
    return flatten(model, floating(model), dtype=None)


def unflat(vector: Tensor, like: ModelState) -> ModelState:
    """The inverse of `flat`; statistics and counters are those of `like`."""
    return with_weights(like, floating(like), vector)


@contextmanager
def one_thread() -> Iterator[None]:
    """What is computed inside does not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
