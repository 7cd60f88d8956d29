from __future__ import annotations

import numpy as np
import pytest
import torch

from fedunlearn.data.dataset import Dataset, Samples
from fedunlearn.errors import DataError


def some(count: int) -> Samples:
    return Samples(torch.arange(count * 4, dtype=torch.uint8).reshape(count, 1, 2, 2), torch.arange(count) % 3)


def test_take_copies_in_the_given_order() -> None:
    samples = some(5)
    taken = samples.take(np.array([4, 0, 4]))
    assert len(taken) == 3
    assert taken.labels.tolist() == [1, 0, 1]
    assert torch.equal(taken.inputs[0], samples.inputs[4])
    taken.inputs.zero_()
    assert samples.inputs[4].sum() > 0


def test_take_of_nothing_keeps_shape_and_type() -> None:
    taken = some(5).take([])
    assert taken.inputs.shape == (0, 1, 2, 2)
    assert taken.inputs.dtype == torch.uint8


def test_concat_undoes_take() -> None:
    samples = some(6)
    joined = Samples.concat([samples.take(range(2)), samples.take(range(2, 6))])
    assert torch.equal(joined.inputs, samples.inputs)
    assert torch.equal(joined.labels, samples.labels)
    with pytest.raises(DataError):
        Samples.concat([])


def test_one_label_for_each_input() -> None:
    with pytest.raises(DataError, match="3 inputs came with 2 labels"):
        Samples(torch.zeros(3, 1), torch.zeros(2, dtype=torch.int64))


def test_a_dataset_always_has_the_column_label() -> None:
    data = Dataset(some(4), some(2), ("a", "b", "c"), {"client": np.array(["x", "y", "x", "y"])})
    assert data.columns["label"].tolist() == [0, 1, 2, 0]
    assert data.columns["client"].tolist() == ["x", "y", "x", "y"]
    assert data.input_shape == (1, 2, 2)
    with pytest.raises(DataError, match="column 'client' has 1 values for 4"):
        Dataset(some(4), some(2), ("a", "b", "c"), {"client": np.array(["x"])})
