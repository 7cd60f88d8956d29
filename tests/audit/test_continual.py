from __future__ import annotations

import pytest

from fedunlearn.audit.accuracy import Accuracy
from fedunlearn.audit.continual import harmonic_mean, standing
from fedunlearn.errors import DataError


@pytest.mark.parametrize(
    ("before", "remaining", "after", "published"),
    [
        # Tables 2a, 3a, 4 and 5 of the paper: Acc_f of the pre-trained model, Acc_r, Acc_f and H, in percent.
        (70.88, 71.16, 0.00, 71.02),
        (72.74, 71.35, 0.00, 72.04),
        (73.86, 73.56, 0.00, 73.71),
        (70.88, 69.95, 0.24, 70.29),
        (74.65, 74.16, 0.00, 74.40),
        (73.80, 73.37, 0.00, 73.59),
        (75.11, 75.36, 0.00, 75.23),
        (74.65, 64.46, 54.60, 30.59),
        (87.40, 85.98, 0.10, 86.63),
        (72.56, 64.10, 0.00, 68.07),
    ],
)
def test_the_harmonic_mean_is_that_of_the_published_rows(
    before: float, remaining: float, after: float, published: float
) -> None:
    assert harmonic_mean(remaining, before, after) == pytest.approx(published, abs=0.03)


@pytest.mark.parametrize(("remaining", "before", "after"), [(0.0, 0.7, 0.0), (0.7, 0.7, 0.7), (0.7, 0.6, 0.7)])
def test_nothing_kept_or_nothing_forgotten_is_zero(remaining: float, before: float, after: float) -> None:
    assert harmonic_mean(remaining, before, after) == 0.0


def test_the_groups_of_classes_by_hand() -> None:
    original = Accuracy(0.9, (0.9, 0.8, 1.0, 0.7, 0.6), 50)
    now = Accuracy(0.5, (0.8, 0.6, 0.1, 0.2, 0.0), 50)
    found = standing(now, original, forgotten=[2, 3], old=[4], missing=[1])
    assert found.remaining == pytest.approx(0.7)
    assert found.forgotten == pytest.approx(0.15)
    assert (found.old, found.missing) == (0.0, 0.6)
    fall = 0.85 - 0.15
    assert found.h == pytest.approx(2 * 0.7 * fall / (0.7 + fall))


def test_there_must_be_something_left() -> None:
    everything = Accuracy(0.9, (0.9, 0.8), 20)
    with pytest.raises(DataError, match="test samples of forgotten and of remaining classes"):
        standing(everything, everything, forgotten=[0, 1])
    with pytest.raises(DataError, match="there are none"):
        standing(Accuracy(0.9, (0.9, None), 10), everything, forgotten=[1])
