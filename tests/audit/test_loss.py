from __future__ import annotations

import pytest
import torch

from fedunlearn.audit import loss
from fedunlearn.audit.counts import add


def test_mean_over_clients_is_the_mean_over_samples() -> None:
    losses = torch.rand(90, generator=torch.Generator().manual_seed(1))
    total = add(loss.count(part) for part in losses.split([20, 70]))
    assert loss.combine(total) == pytest.approx(float(losses.mean()), abs=1e-7)


def test_few_samples_are_withheld() -> None:
    assert loss.count(torch.ones(19)) is None
    assert loss.count(torch.ones(20)) == {"sum": 20.0, "samples": 20}
    assert loss.combine(None) is None
    assert loss.combine(loss.count(torch.ones(0), minimum=0)) is None
