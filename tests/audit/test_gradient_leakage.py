from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from fedunlearn.audit import gradient_leakage
from fedunlearn.audit.gradient_leakage import (
    MatchingSettings,
    gradients_of,
    gradients_of_update,
    likely_labels,
    moved_rows,
    one_step,
    peak_signal_to_noise,
    rebuild,
)
from fedunlearn.audit.metric import Gathered, Sizes, metrics
from fedunlearn.audit.subject import Subject
from fedunlearn.channels.mask import ChannelMask
from fedunlearn.channels.packing import Portion
from fedunlearn.data.dataset import Samples
from fedunlearn.tasks import Task

RATE = 0.05


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_an_update_says_the_gradient_in_the_rows_that_moved(target: Subject, task: Task) -> None:
    network = target.network(target.model)
    some = target.retained.take([0, 1])
    inputs = task.inputs(some.inputs)
    after = one_step(task, network, inputs, some.labels, RATE)
    mask = ChannelMask({"hidden": torch.tensor([2, 5])})
    portion = mask.portion(target.layout)
    seen = gradients_of_update(network, after, RATE, portion)
    loss = task.loss(network, inputs, some.labels).mean()
    slopes = dict(
        zip(
            [n for n, _ in network.named_parameters()],
            torch.autograd.grad(loss, list(network.parameters())),
            strict=True,
        )
    )
    expected = [
        slopes["hidden.weight"][[2, 5]],
        slopes["hidden.bias"][[2, 5]],
        slopes["output.weight"],
        slopes["output.bias"],
    ]
    assert len(seen) == len(expected)
    for one, other in zip(seen, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-4)
    for one, other in zip(gradients_of(task, network, inputs, some.labels, portion), expected, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_the_moved_rows_are_those_of_the_mask(target: Subject) -> None:
    after = {name: tensor.clone() for name, tensor in target.model.items()}
    after["hidden.weight"][3] += 0.1
    after["output.bias"] += 0.1
    rows = moved_rows(target.model, after).rows
    assert set(rows) == {"hidden.weight", "output.bias"} and rows["output.bias"] is None
    assert rows["hidden.weight"].tolist() == [3]  # type: ignore[union-attr]
    assert moved_rows(target.model, target.model) == Portion.everything(target.model)


def test_one_sample_of_a_linear_model_is_rebuilt(task: Task) -> None:
    """Its gradient is the sample itself, but for a factor."""

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(16, 5)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.layer(inputs.flatten(1))

    torch.manual_seed(0)
    model, truth = Linear(), torch.rand(1, 1, 4, 4, generator=generator())
    labels = torch.tensor([2])
    after = one_step(task, model, truth, labels, RATE)
    seen = gradients_of_update(model, after, RATE, None)
    assert likely_labels(seen[-1], 1).tolist() == [2]
    settings = MatchingSettings(steps=200, learning_rate=0.05, smoothing=0.0)
    made = rebuild(task, model, seen, labels, (1, 4, 4), None, generator(), settings)
    assert peak_signal_to_noise(made, truth) > 25.0


def test_the_output_layer_alone_shows_less_than_everything(target: Subject, task: Task) -> None:
    network = target.network(target.retrained)  # type: ignore[arg-type]
    found = []
    for portion in (None, ChannelMask.empty(target.layout).portion(target.layout)):
        ratios = []
        for position in range(2):
            sample = target.retained.take([position])
            truth = task.inputs(sample.inputs)
            seen = gradients_of_update(network, one_step(task, network, truth, sample.labels, RATE), RATE, portion)
            made = rebuild(
                task, network, seen, sample.labels, (1, 8, 8), portion, torch.Generator().manual_seed(position)
            )
            ratios.append(peak_signal_to_noise(made, truth))
        found.append(sum(ratios) / len(ratios))
    assert found[0] > found[1] + 3.0


@pytest.mark.parametrize("labels", [[3, 3, 5], [0, 1, 2, 3], [7, 7, 7]])
def test_labels_are_read_off_the_bias_of_an_even_model(labels: list[int]) -> None:
    """A model without an opinion pulls each class by 0.1 up and each sample's own by its share down."""
    gradient = torch.full((10,), 0.1)
    for label in labels:
        gradient[label] -= 1 / len(labels)
    assert likely_labels(gradient, len(labels)).tolist() == labels


def test_decibels_by_hand() -> None:
    one = torch.zeros(1, 2, 2)
    assert peak_signal_to_noise(one, one + 0.1) == pytest.approx(20.0)
    assert peak_signal_to_noise(one, one + 25.5, extent=255.0) == pytest.approx(20.0)
    assert peak_signal_to_noise(one, one) == 60.0


def test_the_values_by_hand() -> None:
    findings = {
        1: {"samples": 1, "rebuilt": 20.0, "mean": 11.0},
        2: {},
        3: {"samples": 1, "rebuilt": 10.0, "mean": 11.0},
    }
    values = gradient_leakage.combine(Gathered(Sizes(10), remaining=findings))
    assert {name: value.value for name, value in values.items()} == {
        "gradient_leakage": 4.0,
        "gradient_leakage.rebuilt": 15.0,
        "gradient_leakage.mean_input": 11.0,
    }
    assert set(values) == set(metrics.get("gradient_leakage").values)


def test_a_client_that_keeps_nothing_has_nothing_to_leak(target: Subject) -> None:
    nothing = Samples(target.forget.inputs[:0], target.forget.labels[:0])
    assert gradient_leakage.measure(replace(target, retained=nothing), generator()) == {}
