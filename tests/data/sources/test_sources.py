from __future__ import annotations

import pytest
import torch

from fedunlearn.data.sources import load_dataset, sources
from fedunlearn.errors import UnknownName


def test_every_source_of_the_issue_is_there() -> None:
    assert {"mnist5k", "digits", "cifar10", "cifar100", "fashion-mnist", "svhn"} <= set(sources.names())


def test_a_data_set_is_loaded_once() -> None:
    assert load_dataset("digits", 0) is load_dataset("digits", 0)
    assert not torch.equal(load_dataset("digits", 0).test.inputs, load_dataset("digits", 1).test.inputs)


def test_an_unknown_source_is_told_the_near_one() -> None:
    with pytest.raises(UnknownName, match="digits"):
        load_dataset("digit", 0)
