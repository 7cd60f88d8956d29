from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from fedunlearn.audit.probe import erasure_probe, features, linear_probe
from fedunlearn.channels.layout import channel_layout
from fedunlearn.data.dataset import Dataset, Samples
from fedunlearn.errors import DataError
from fedunlearn.tasks import Task


@pytest.fixture(scope="module")
def output_layer(task: Task, learned: nn.Module, train: Samples) -> str:
    return channel_layout(learned, task.inputs(train.inputs[:4])).output_layer


def test_features_are_what_the_output_layer_reads(
    task: Task, learned: nn.Module, train: Samples, output_layer: str
) -> None:
    found = features(task, learned, output_layer, train.inputs[:50], batch_size=16)
    with torch.no_grad():
        expected = learned(task.inputs(train.inputs[:50]))
        assert torch.allclose(learned.get_submodule(output_layer)(found), expected, atol=1e-5)


def test_finds_a_class_that_only_the_output_layer_denies(
    task: Task, learned: nn.Module, dataset: Dataset, train: Samples, output_layer: str
) -> None:
    cheat = copy.deepcopy(learned)
    layer = cheat.get_submodule(output_layer)
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight[3] = 0.0
        layer.bias[3] = -1e4
        answers = cheat(task.inputs(dataset.test.inputs)).argmax(dim=1)
    assert not bool((answers == 3).any())
    result = linear_probe(task, cheat, output_layer, train, dataset.test, 3, torch.Generator().manual_seed(0))
    assert result.by_class[3] is not None and result.by_class[3] > 0.8
    assert result.overall is not None and result.overall > 0.85


def test_a_fooled_head_is_told_from_features_that_never_knew_the_class(
    task: Task, learned: nn.Module, dataset: Dataset, train: Samples, output_layer: str
) -> None:
    fooled, blind = copy.deepcopy(learned), copy.deepcopy(learned)
    layer = fooled.get_submodule(output_layer)
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.bias[3] = -1e4
        # Features that are always zero tell no class from another.
        for parameter in blind.hidden.parameters():  # type: ignore[union-attr]
            parameter.zero_()
    draw = torch.Generator().manual_seed(0)
    found = erasure_probe(task, fooled, output_layer, train, dataset.test, [3], draw, share=0.5)
    assert found.own == 0.0 and found.probed > 0.8
    gone = erasure_probe(task, blind, output_layer, train, dataset.test, [3, 4], draw, share=0.5)
    assert gone.probed <= 0.5
    with pytest.raises(DataError, match="test samples of the forgotten classes"):
        erasure_probe(task, fooled, output_layer, train, dataset.test.take([]), [3], draw)


def test_leaves_the_model_alone_and_repeats(
    task: Task, learned: nn.Module, dataset: Dataset, train: Samples, output_layer: str
) -> None:
    learned.train()
    before = {name: value.clone() for name, value in learned.state_dict().items()}
    results = [
        linear_probe(task, learned, output_layer, train, dataset.test, 1, torch.Generator().manual_seed(5))
        for _ in range(2)
    ]
    assert results[0] == results[1]
    assert learned.training
    assert not learned.get_submodule(output_layer)._forward_pre_hooks
    assert all(torch.equal(before[name], value) for name, value in learned.state_dict().items())


def test_needs_training_samples(
    task: Task, learned: nn.Module, dataset: Dataset, train: Samples, output_layer: str
) -> None:
    with pytest.raises(DataError, match="needs training samples"):
        linear_probe(task, learned, output_layer, train.take([]), dataset.test, 1, torch.Generator())
