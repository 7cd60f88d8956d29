from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import ClientError
from fedunlearn.strategies.centralised.ssd import dampen
from fedunlearn.strategies.method import methods

importances = hnp.arrays(np.float32, 6, elements=st.floats(0, 1e6, width=32))
weights = hnp.arrays(np.float32, 6, elements=st.floats(-1e3, 1e3, width=32))


def squared(tiny, model, samples, size: int) -> dict[str, torch.Tensor]:
    """The mean over batches of the squared gradient, in plain loops."""
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    starts = range(0, len(samples), size)
    for start in starts:
        inputs, labels = samples.inputs[start : start + size], samples.labels[start : start + size]
        model.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), labels).backward()
        for name, parameter in model.named_parameters():
            total[name] += parameter.grad**2 / len(starts)
    return total


@pytest.mark.parametrize("gradients", ["batch", "sample"])
def test_by_hand(tiny, gradients: str) -> None:
    """One target that keeps samples and two other clients, all of full batches: a centralised computation."""
    clients = [
        tiny.Client(forget=tiny.samples(24, 1, classes=[0]), retain=tiny.samples(24, 2)),
        tiny.Client(retain=tiny.samples(40, 3)),
        tiny.Client(retain=tiny.samples(24, 4)),
    ]
    model, size = tiny.network(), 8 if gradients == "batch" else 1
    options = {"selection": 1.2, "dampening": 0.9, "gradients": gradients}
    served = tiny.serve(model, clients, "ssd", **options)
    everything = [client.forget for client in clients] + [client.retain for client in clients]
    forget = squared(tiny, model, clients[0].forget, size)
    whole = squared(tiny, model, type(everything[0]).concat(everything), size)
    moved = 0
    for name, parameter in model.named_parameters():
        expected = parameter.detach().clone().flatten()
        for i, (f, d) in enumerate(zip(forget[name].flatten().tolist(), whole[name].flatten().tolist(), strict=True)):
            if f > 1.2 * d:
                expected[i] *= min(0.9 * d / f, 1.0)
                moved += 1
        assert torch.allclose(served.model[name].flatten(), expected, atol=1e-6), name
    assert 0 < moved < sum(parameter.numel() for parameter in model.parameters())
    assert served.states[-1].arrays == {}


@given(weights, importances, importances, st.floats(0.5, 20), st.floats(0.1, 5))
def test_weights_shrink_or_stay(weight, forget, everything, selection: float, dampening: float) -> None:
    after = dampen(weight, forget, everything, selection, dampening)
    assert after.dtype == weight.dtype and (np.abs(after) <= np.abs(weight)).all()
    assert (np.sign(after) * np.sign(weight) >= 0).all()
    stays = forget <= selection * everything
    assert np.array_equal(after[stays], weight[stays])


def test_importances_of_few_samples_are_withheld(tiny) -> None:
    clients = [tiny.Client(forget=tiny.samples(19, 1)), tiny.Client(retain=tiny.samples(40, 2))]
    with pytest.raises(ClientError, match="fewer than 20 forgotten samples"):
        tiny.serve(tiny.network(), clients, "ssd")


@pytest.mark.parametrize(("forget", "retain", "counted"), [(24, 19, 24), (24, 20, 44), (19, 8, 27)])
def test_few_retained_samples_are_not_told_by_a_difference(tiny, forget: int, retain: int, counted: int) -> None:
    client = tiny.Client(forget=tiny.samples(forget, 1), retain=tiny.samples(retain, 2))
    settings = UnlearnSettings(method="ssd", options={"gradients": "sample"})
    _, everything = methods.get("ssd").phases(settings, 3)
    reply = everything.compute(tiny.work_of(tiny.start(tiny.network(), settings), client, 1, everything, 0))
    assert reply.metrics["num-examples"] == counted


def test_statistics_of_normalisation_stay(tiny) -> None:
    model = tiny.network(normalised=True)
    clients = [tiny.Client(forget=tiny.samples(24, 1, classes=[0])), tiny.Client(retain=tiny.samples(40, 2))]
    served = tiny.serve(model, clients, "ssd")
    for name, buffer in model.named_buffers():
        assert torch.equal(served.model[name], buffer), name
