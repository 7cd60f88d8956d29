from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch

from fedunlearn.data.dataset import Dataset
from fedunlearn.data.sources import load_dataset, sources
from fedunlearn.errors import DataError, UnknownName
from fedunlearn.tasks import ClassificationTask, get_task


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


@dataclass
class Configured:
    """A source with settings, compared by value: dataclasses such as this have no hash."""

    offset: int
    asked: list[int] = field(default_factory=list)

    def __call__(self, seed: int) -> Dataset:
        self.asked.append(seed)
        return load_dataset("digits", seed + self.offset)


def test_a_source_without_a_hash_is_asked_once_a_seed_as_well() -> None:
    one, equal = Configured(1), Configured(1)
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)
    plain, painting = ClassificationTask("own", one), replace(get_task("inpainting:digits"), source=equal)
    for task, source in ((plain, one), (painting, equal)):
        assert task.dataset(1) is task.dataset(1)
        assert task.dataset(2) is not task.dataset(1)
        assert source.asked == [1, 2]
    assert torch.equal(plain.dataset(1).train.inputs, load_dataset("digits", 2).train.inputs)


def test_what_a_source_of_ones_own_does_wrong_is_said_in_a_sentence() -> None:
    def broken(seed: int) -> Dataset:
        raise ValueError("no such column")

    def pair(seed: int) -> Dataset:
        return (1, 2)  # type: ignore[return-value]

    def wrong_itself(seed: int) -> Dataset:
        raise DataError("its own sentence.")

    with pytest.raises(DataError, match=r"source broken failed \(ValueError: no such column\); call it with a seed"):
        load_dataset(broken, 0)
    with pytest.raises(DataError, match="source pair gave a tuple; have it return"):
        load_dataset(pair, 0)
    with pytest.raises(DataError, match=r"^its own sentence\.$"):
        load_dataset(wrong_itself, 0)


def test_an_unknown_source_is_told_the_near_one() -> None:
    with pytest.raises(UnknownName, match="digits"):
        load_dataset("digit", 0)
