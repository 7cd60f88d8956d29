from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from fedunlearn.audit.calibration import LEFT_OUT, PooledMetric, calibrate, clopper_pearson, draws
from fedunlearn.errors import DataError


@given(st.integers(2, 40), st.data())
def test_a_draw_is_a_band_and_one_more(pool: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, pool - 1))
    repetitions = data.draw(st.integers(1, 60))
    found = draws(pool, size, repetitions, seed=1)
    assert len(found) == repetitions and found == draws(pool, size, repetitions, seed=1)
    for draw in found:
        assert len(set(draw.band)) == size and draw.left_out not in draw.band
        assert all(0 <= index < pool for index in (*draw.band, draw.left_out))
    assert len({draw.left_out for draw in found[:pool]}) == min(pool, repetitions)


def test_a_pool_that_is_too_small_is_refused() -> None:
    with pytest.raises(DataError, match="need 9 retrained models; there are 8"):
        draws(8, 8, 1, seed=0)


def metric(pool: np.ndarray, subjects: dict[str, float], original: float = math.exp(-4)) -> PooledMetric:
    return PooledMetric("loss", "removal", "log", original, tuple(np.exp(pool).tolist()), subjects)


def test_what_is_retrained_passes_and_what_is_not_does_not() -> None:
    pool = np.random.default_rng(0).normal(0, 0.1, size=30)
    accuracy = PooledMetric(
        "accuracy",
        "utility",
        "logit",
        0.95,
        tuple(0.95 + 0.002 * np.sin(np.arange(30))),
        {"nothing": 0.95, "broken": 0.8},
        1000,
    )
    several = [metric(pool, {"nothing": math.exp(-4), "broken": 1.0}), accuracy]
    found = calibrate(several, draws(30, 8, 20, seed=3), {"nothing": ["loss"], "broken": ["accuracy"]})
    assert set(found) == {LEFT_OUT, "nothing", "broken"}
    assert found[LEFT_OUT].count("pass") >= 17 and found[LEFT_OUT].count("fail") <= 1
    assert found["nothing"].count("fail") == 20 and found["nothing"].failed == {"loss": 20, "accuracy": 0}
    assert found["broken"].count("fail") == 20 and found["broken"].failed["accuracy"] == 20
    assert all(found["nothing"].caught) and found["nothing"].informative == {"loss": 20, "accuracy": 20}


def test_a_metric_that_cannot_tell_catches_nobody() -> None:
    pool = np.random.default_rng(0).normal(0, 0.1, size=12)
    found = calibrate([metric(pool, {"nothing": 1.0}, 1.0)], draws(12, 8, 5, seed=0), {"nothing": ["loss"]})
    assert found["nothing"].count("inconclusive") == 5 and not any(found["nothing"].caught)


@pytest.mark.parametrize(("count", "total"), [(0, 20), (1, 20), (17, 20), (20, 20)])
def test_the_limits_are_exact(count: int, total: int) -> None:
    low, high = clopper_pearson(count, total)
    if count:
        assert binom.sf(count - 1, total, low) == pytest.approx(0.025)
    if count < total:
        assert binom.cdf(count, total, high) == pytest.approx(0.025)
    assert (low == 0.0) == (count == 0) and (high == 1.0) == (count == total)


def test_the_limits_of_the_tables() -> None:
    assert clopper_pearson(20, 20)[0] == pytest.approx(0.8316, abs=1e-4)
    assert clopper_pearson(19, 20) == pytest.approx((0.7513, 0.9987), abs=1e-4)
