from __future__ import annotations

import pytest
import torch

from fedunlearn.data.dataset import Dataset
from fedunlearn.data.sources import load_dataset, sources
from fedunlearn.errors import UnknownName
from fedunlearn.tasks import ClassificationTask


def test_every_source_of_the_issue_is_there() -> None:
    assert {"mnist5k", "digits", "cifar10", "cifar100", "fashion-mnist", "svhn"} <= set(sources.names())


def test_a_data_set_is_loaded_once() -> None:
    assert load_dataset("digits", 0) is load_dataset("digits", 0)
    assert not torch.equal(load_dataset("digits", 0).test.inputs, load_dataset("digits", 1).test.inputs)


def test_a_source_of_ones_own_is_asked_once_a_seed() -> None:
    asked: list[int] = []

    def own(seed: int) -> Dataset:
        asked.append(seed)
        return load_dataset("digits", seed)

    task = ClassificationTask("own", own)
    assert task.dataset(1) is task.dataset(1)
    assert task.dataset(2) is not task.dataset(1)
    assert asked == [1, 2]


def test_an_unknown_source_is_told_the_near_one() -> None:
    with pytest.raises(UnknownName, match="digits"):
        load_dataset("digit", 0)
