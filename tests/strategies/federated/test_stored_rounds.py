from __future__ import annotations

import torch
from torch import nn

from fedunlearn.strategies.federated.stored_rounds import flat, floating, unflat


def test_statistics_of_normalisation_layers_are_no_values_to_compute_with() -> None:
    """A share of a variance that is subtracted from it, or multiplied, may leave something below zero."""
    model = dict(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict())
    assert floating(model) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    less = unflat(flat(model) - 5, model)
    assert all(torch.equal(less[name], model[name] - 5) for name in floating(model))
    assert all(torch.equal(less[f"1.{name}"], model[f"1.{name}"]) for name in ("running_mean", "running_var"))
    assert less["1.num_batches_tracked"] == 0 and less.keys() == model.keys()
