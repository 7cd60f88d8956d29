from __future__ import annotations

import pytest
import torch

from fedunlearn.audit import error


def test_sums_by_hand() -> None:
    errors = torch.tensor([0.1, 0.2] * 10)
    found = error.count(errors)
    assert found is not None and found["samples"] == 20
    assert found["sum"] == pytest.approx(3.0) and found["squares"] == pytest.approx(0.5)


def test_nineteen_images_are_withheld() -> None:
    assert error.count(torch.rand(19)) is None
    assert error.count(torch.rand(1), minimum=1) is not None


@pytest.mark.parametrize(("mean_square", "decibels"), [(1.0, 0.0), (0.1, 10.0), (0.01, 20.0), (0.0, 100.0)])
def test_decibels(mean_square: float, decibels: float) -> None:
    assert error.peak_signal_to_noise(mean_square) == pytest.approx(decibels)
