"""The table that scikit-learn carries."""

from __future__ import annotations

import torch
from sklearn.datasets import load_breast_cancer

from fedunlearn.data.sources.tables import breast_cancer


def test_measurements_are_scaled_by_the_training_samples_alone() -> None:
    found = breast_cancer(3)
    assert (len(found.train), len(found.test)) == (455, 114)
    assert torch.allclose(found.train.inputs.mean(0), torch.zeros(30), atol=1e-5)
    assert torch.allclose(found.train.inputs.std(0), torch.ones(30), atol=1e-5)
    assert found.test.inputs.mean(0).abs().max() > 1e-3
    # The scaling is undone by the table's own numbers: every row is one of them, none is lost.
    table = torch.tensor(load_breast_cancer().data, dtype=torch.float32)
    everything = torch.cat([found.train.inputs, found.test.inputs])
    column = everything[:, 0]
    slope = (table[:, 0].max() - table[:, 0].min()) / (column.max() - column.min())
    undone = (column - column.min()) * slope + table[:, 0].min()
    assert torch.allclose(undone.sort().values, table[:, 0].sort().values, atol=1e-3)


def test_both_classes_are_split_alike_and_the_seed_decides() -> None:
    one, same, other = breast_cancer(0), breast_cancer(0), breast_cancer(1)
    assert one.classes == ("malignant", "benign")
    shares = [part.labels.float().mean().item() for part in (one.train, one.test)]
    assert abs(shares[0] - shares[1]) < 0.01
    assert torch.equal(one.train.inputs, same.train.inputs)
    assert not torch.equal(one.train.inputs, other.train.inputs)
