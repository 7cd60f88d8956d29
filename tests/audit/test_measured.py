from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.audit.measured import LEAST_LOSS, Measured
from fedunlearn.errors import DataError


def rate(original: float = 0.9, samples: int | None = 100, **changes: object) -> Measured:
    values = {"metric": "a", "kind": "removal", "transform": "logit", "unlearned": 0.1, "retrained": ()}
    return Measured(**{**values, "original": original, "samples": samples, **changes})  # type: ignore[arg-type]


def loss(original: float = 0.9, **changes: object) -> Measured:
    return rate(original, None, transform="log", **changes)


@pytest.mark.parametrize(("k", "by_hand"), [(0, 0.5 / 100.5), (50, 1.0), (100, 100.5 / 0.5), (7, 7.5 / 93.5)])
def test_a_rate_goes_through_the_logit_of_smoothed_counts(k: int, by_hand: float) -> None:
    assert rate().forward(k / 100) == pytest.approx(math.log(by_hand), abs=1e-12)


def test_a_loss_goes_through_the_logarithm() -> None:
    assert loss().forward(0.25) == math.log(0.25)
    assert loss().forward(0.0) == math.log(LEAST_LOSS)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_rates_come_back(samples: int, share: float) -> None:
    measured = rate(samples=samples)
    assert measured.back(measured.forward(share)) == pytest.approx(share, abs=1e-9)


@given(st.floats(LEAST_LOSS, 1e6))
def test_losses_come_back(value: float) -> None:
    assert loss().back(loss().forward(value)) == pytest.approx(value)


def test_what_lies_beyond_every_rate_and_loss_stays_a_number() -> None:
    assert rate().back(-1e6) == 0.0 and rate().back(1e6) == 1.0
    assert math.isfinite(loss().back(1e6)) and loss().back(-1e6) == 0.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"original": 1.01}, "expected a rate"),
        ({"unlearned": math.nan}, "expected a rate"),
        ({"retrained": (0.1, -0.1)}, "expected a rate"),
        ({"samples": 0}, "needs its number of samples"),
        ({"samples": None}, "needs its number of samples"),
        ({"transform": "log"}, "a loss has none"),
        ({"transform": "log", "samples": None, "original": math.inf}, "expected a loss"),
        ({"kind": "beauty"}, "is no metric of a verdict"),
        ({"transform": "root"}, "is no metric of a verdict"),
    ],
)
def test_what_cannot_be_judged_is_refused(changes: dict, said: str) -> None:
    with pytest.raises(DataError, match=said):
        rate(**changes)


def test_an_entry_of_a_document_is_read_back() -> None:
    entry = {
        "metric": "a",
        "kind": "removal",
        "transform": "logit",
        "samples": 10,
        "original": 1,
        "unlearned": 0.5,
        "retrained": [0.1, 0.2],
        "mean": "whatever",
    }
    assert Measured.of(entry) == Measured("a", "removal", "logit", 1.0, 0.5, (0.1, 0.2), 10)
    for damaged in ({**entry, "original": "much"}, {k: v for k, v in entry.items() if k != "retrained"}):
        with pytest.raises(DataError, match="damaged"):
            Measured.of(damaged)
