from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedunlearn.channels.mask import ChannelMask
from fedunlearn.channels.packing import nbytes
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import ClientError
from fedunlearn.strategies.federated.auxiliary_head import features_of, learn_heads
from fedunlearn.strategies.method import ClientReply, Preparation, methods


def preparation(work, samples: Samples, prepared=None) -> Preparation:
    return Preparation(
        work.task,
        work.model,
        work.layout,
        3,
        samples,
        work.training,
        1,
        prepared or {},
        torch.Generator().manual_seed(1),
    )


def separable() -> Samples:
    labels = torch.arange(90) % 3
    inputs = torch.zeros(90, 1, 4, 4)
    for label in range(3):
        inputs[labels == label, 0, label] = 3.0
    return Samples(inputs, labels)


def test_features_are_what_the_output_layer_is_given(make_work) -> None:
    work = make_work()
    found = features_of(work.task, work.model, work.retain.inputs, work.layout)
    assert torch.allclose(found, work.model[:5](work.retain.inputs))
    assert work.model.training


def test_a_head_is_wrong_about_its_own_class_and_right_about_the_others(make_work) -> None:
    work, samples = make_work(), separable()
    with torch.no_grad():  # features that tell the classes apart
        work.model[3].weight.copy_(torch.randn(4, 12, generator=torch.Generator().manual_seed(8)))
    prepared: dict = {}
    for _ in range(12):
        prepared = learn_heads(preparation(work, samples, prepared))
    assert set(prepared) == {
        f"{name}/5.{kind}" for name in ("right", "everything", "0", "1", "2") for kind in ("weight", "bias")
    }
    features = features_of(work.task, work.model, samples.inputs, work.layout)

    def accuracy(name: str) -> list[float]:
        weight, bias = (torch.from_numpy(prepared[f"{name}/5.{kind}"]) for kind in ("weight", "bias"))
        right = (features @ weight.T + bias).argmax(dim=1) == samples.labels
        return [float(right[samples.labels == label].double().mean()) for label in range(3)]

    assert accuracy("right") == [1.0, 1.0, 1.0]
    assert accuracy("1") == [1.0, 0.0, 1.0]
    assert max(accuracy("everything")) < 0.5


def test_few_samples_teach_nothing(make_work) -> None:
    work = make_work()
    assert learn_heads(preparation(work, work.retain.take(range(19)))) == {}
    labels = torch.tensor([0] * 25 + [1] * 19)
    heads = learn_heads(preparation(work, Samples(torch.rand(44, 1, 4, 4), labels)))
    assert {name.partition("/")[0] for name in heads} == {"right", "everything", "0"}


def test_the_closed_form_by_hand(place) -> None:
    settings = UnlearnSettings(method="fedau", rounds=1, options={"alpha": 0.75})
    phases = methods.get("fedau").phases(settings, 2)
    start = place.state("client", settings)
    state = replace(start, mask=ChannelMask.empty(start.layout))
    head = state.packed()

    def reply(client: int, value: float, samples: int) -> ClientReply:
        arrays = {name: np.full_like(array, value) for name, array in head.items()}
        return ClientReply(client, "remaining", arrays, {"num-examples": samples})

    kept = phases[1].combine(state, [reply(1, 8.0, 50)])
    done = phases[2].combine(kept, [reply(0, 1.0, 100), reply(2, 4.0, 50)])
    # The auxiliary head: (8 x 50 + (1 x 100 + 4 x 50)) / 200 = 3.5.
    for name, array in head.items():
        assert np.allclose(done.model[name].numpy(), 0.25 * array + 0.75 * 3.5, atol=1e-6)
    others = set(place.model) - set(head)
    assert all(torch.equal(done.model[name], place.model[name]) for name in others)


def test_nothing_but_the_head_crosses_the_network(place) -> None:
    state, witness = place.serve("class-everywhere", UnlearnSettings(method="fedau", rounds=3))
    head = nbytes(ChannelMask.empty(state.layout).portion(state.layout), place.model)
    assert [report.phase.message for report in witness.reports] == [
        "query.count",
        "query.importance",
        "query.importance",
    ]
    for report in witness.reports[1:]:
        assert {counted["up"] for counted in report.outcome.bytes.values()} == {head + 8}
    changed = {name for name, tensor in state.model.items() if not torch.equal(tensor, place.model[name])}
    assert changed == set(state.layout.output)


def test_a_target_that_stays_is_not_right_about_what_goes(make_work) -> None:
    whole = make_work()
    forget = whole.forget.take((whole.forget.labels == 1).nonzero().squeeze(1))
    prepared = {
        f"{name}/5.{kind}": np.full(shape, value, np.float32)
        for name, value in (("right", 1.0), ("everything", 2.0), ("0", 3.0), ("1", 4.0))
        for kind, shape in (("weight", (3, 4)), ("bias", (3,)))
    }
    wrong, right = (phase.compute for phase in methods.get("fedau").phases(UnlearnSettings(), 2)[1:])

    def said(compute, **changes) -> float:
        return float(compute(make_work(prepared=prepared, **changes)).arrays["5.bias"][0])

    none = whole.retain.take([])
    assert said(wrong, forget=forget) == 4.0
    assert said(right, forget=forget) == 4.0
    assert said(right, forget=none, role="remaining") == 1.0
    assert said(wrong, retain=none) == 2.0
    with pytest.raises(ClientError, match="no auxiliary head"):
        said(wrong, forget=whole.forget.take((whole.forget.labels == 2).nonzero().squeeze(1)))
