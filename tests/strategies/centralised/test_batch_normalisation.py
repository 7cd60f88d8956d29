"""Networks with running statistics: they are sent, averaged and counted, and are nobody's weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedunlearn.strategies.method import methods

NAMES = [name for name in methods.names() if ".centralised." in type(methods.get(name)).__module__]


def test_all_of_them_are_here() -> None:
    assert len(NAMES) == 13


@pytest.mark.parametrize("name", NAMES)
def test_every_method_serves_a_normalised_network(tiny, name: str) -> None:
    clients = [
        tiny.Client(forget=tiny.samples(24, 1, classes=[0]), retain=tiny.samples(20, 2), held_out=tiny.samples(20, 5)),
        tiny.Client(retain=tiny.samples(33, 3)),
        tiny.Client(retain=tiny.samples(41, 4)),
    ]
    model = tiny.network(normalised=True)
    served = tiny.serve(model, clients, name, rounds=2)
    sent = {key: (tuple(t.shape), t.numpy().dtype) for key, t in model.state_dict().items()}
    for phase, replies in served.replies:
        for reply in replies:
            if phase.message != "query.error":
                assert {key: (array.shape, array.dtype) for key, array in reply.arrays.items()} == sent
            assert all(np.isfinite(array).all() for array in reply.arrays.values())
    assert all(torch.isfinite(tensor).all() for tensor in served.model.values())
    assert {key: tensor.dtype for key, tensor in served.model.items()} == {
        key: tensor.dtype for key, tensor in model.state_dict().items()
    }
    assert (served.model["1.running_var"] > 0).all()
    assert served.states[-1].arrays == {} or name == "salun"
