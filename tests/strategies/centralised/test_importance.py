from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import ClientError
from fedunlearn.strategies.centralised.importance import check_enough, is_weight, mean_gradients, told
from fedunlearn.strategies.method import methods


def work_of(tiny, model, samples):
    phase = methods.get("ssd").phases(UnlearnSettings(), 3)[0]
    return tiny.work_of(tiny.start(model, UnlearnSettings()), tiny.Client(forget=samples), 0, phase, 0)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("size", [1, 8, 30])
def test_the_mean_over_batches_by_hand(tiny, power: int, size: int) -> None:
    model, given = tiny.network(), tiny.samples(30, 1)
    found = mean_gradients(work_of(tiny, model, given), given, size, power)
    total = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    batches = list(torch.arange(30).split(size))
    for batch in batches:
        model.zero_grad()
        functional.cross_entropy(model(given.inputs[batch]), given.labels[batch]).backward()
        for name, parameter in model.named_parameters():
            total[name] += parameter.grad**power / len(batches)
    for name, expected in total.items():
        assert torch.allclose(found[name], expected, atol=1e-6), name


def test_an_answer_has_an_array_for_each_that_came_down(tiny) -> None:
    model, given = tiny.network(normalised=True), tiny.samples(30, 1)
    work = work_of(tiny, model, given)
    modes = [module.training for module in work.model.modules()]
    reply = told(work, mean_gradients(work, given, 8), 30, 0.0)
    assert [module.training for module in work.model.modules()] == modes
    assert {name: array.shape for name, array in reply.arrays.items()} == {
        name: tuple(tensor.shape) for name, tensor in model.state_dict().items()
    }
    for name, array in reply.arrays.items():
        weight = is_weight(name, array)
        assert weight == (name in dict(model.named_parameters()))
        assert weight or not array.any()
    assert set(reply.metrics) == {"num-examples", "seconds"}


def test_few_samples_are_withheld_and_many_are_sampled(tiny) -> None:
    check_enough(tiny.samples(20), "forgotten")
    with pytest.raises(ClientError, match="fewer than 20 forgotten samples"):
        check_enough(tiny.samples(19), "forgotten")
    given = tiny.samples(50)
    assert given.some(50, torch.Generator()) is given
    drawn = [given.some(30, torch.Generator().manual_seed(2)) for _ in range(2)]
    assert len(drawn[0]) == 30 and torch.equal(drawn[0].inputs, drawn[1].inputs)
