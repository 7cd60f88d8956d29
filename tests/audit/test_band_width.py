from __future__ import annotations

import math

import pytest
from scipy.integrate import quad

from fedunlearn.audit.band_width import factor, fewest_models, fewest_samples, quantile, uncertainty


@pytest.mark.parametrize(
    ("probability", "freedom", "tabled"),
    # As printed in the tables of any textbook.
    [(0.95, 7, 1.895), (0.975, 7, 2.365), (0.995, 7, 3.499), (0.999, 7, 4.785), (0.95, 19, 1.729), (0.995, 1, 63.657)],
)
def test_the_quantile_is_that_of_the_tables(probability: float, freedom: int, tabled: float) -> None:
    assert quantile(probability, freedom) == pytest.approx(tabled, abs=6e-4)


@pytest.mark.parametrize(("probability", "freedom"), [(0.95, 7), (0.999, 19), (0.9995, 3)])
def test_the_quantile_leaves_its_probability_below(probability: float, freedom: int) -> None:
    def density(x: float) -> float:
        scale = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
        return scale * (1 + x * x / freedom) ** (-(freedom + 1) / 2)

    below = 0.5 + quad(density, 0, quantile(probability, freedom))[0]
    assert below == pytest.approx(probability, abs=1e-7)


def test_the_factor_by_hand() -> None:
    assert factor(8, 1) == pytest.approx(3.499483 * math.sqrt(9 / 8), rel=1e-6)
    assert factor(8, 5) == pytest.approx(4.785290 * math.sqrt(9 / 8), rel=1e-6)
    assert factor(20, 5) == pytest.approx(3.579400 * math.sqrt(21 / 20), rel=1e-6)
    # Very many models leave the normal distribution's own quantile.
    assert factor(1_000_000, 5) == pytest.approx(3.090232, rel=1e-4)


def test_the_uncertainty_of_a_mean_by_hand() -> None:
    assert uncertainty(8) == pytest.approx(1.894579 / math.sqrt(8), rel=1e-6)


def test_the_fewest_models_that_decide() -> None:
    assert fewest_models(lambda n: n >= 37, 8) == 37
    assert fewest_models(lambda n: n >= 9, 8) == 9
    assert fewest_models(lambda n: True, 3) == 8
    assert fewest_models(lambda n: True, 12) == 13
    assert fewest_models(lambda n: False, 8) is None


def test_the_fewest_samples_that_decide() -> None:
    def decides(models: int, shrinkage: float) -> bool:
        return models == 9 and shrinkage >= 2.0

    assert fewest_samples(decides, 9, 100) == 400
    assert fewest_samples(decides, 8, 100) is None
    assert fewest_samples(decides, 9, None) is None
    assert fewest_samples(lambda n, s: True, 7, 100) is None
