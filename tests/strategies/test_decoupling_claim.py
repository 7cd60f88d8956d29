from __future__ import annotations

import math

import pytest

from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import SettingsError
from fedunlearn.strategies.decoupling_claim import Claim, sentences

ASSUMED = {"epsilon": 0.5, "delta": 1e-4, "gradient_bound": 2.0, "convexity": 0.1}


def asked(**options: object) -> UnlearnSettings:
    return UnlearnSettings(options={"step": 0.02, "clip": 0.5, "max_steps": 10, **options})  # type: ignore[arg-type]


def test_noise_by_hand() -> None:
    claim = Claim.of(asked(**ASSUMED))
    # 2 G m / (mu n) + eta T_max C with G = 2, m = 30, mu = 0.1, n = 300.
    assert claim.distance(30, 270) == pytest.approx(2 * 2 * 30 / (0.1 * 300) + 0.02 * 10 * 0.5)
    assert claim.deviation(30, 270) == pytest.approx(4.1 * math.sqrt(2 * math.log(1.25e4)) / 0.5)


def test_nothing_is_claimed_without_noise() -> None:
    assert Claim.of(asked()).deviation(30, 270) == 0.0
    bound, goal, none = sentences(asked())
    assert "95 %" in goal and "raise step or max_steps" in goal
    assert "0.02 x 10 x 0.5 = 0.1" in bound
    assert "nothing of the kind is claimed" in none


def test_every_assumption_is_told_and_no_certificate_promised() -> None:
    told = " ".join(sentences(asked(**ASSUMED)))
    for part in ("Epsilon = 0.5", "delta = 0.0001", "sigma", "nominal", "0.1-strongly convex", "longer than 2 "):
        assert part in told
    assert "one target asked" in told and "class_harm = 1" in told
    assert told.count("Assumed:") == 7 and "post-processing" in told and "certif" not in told.lower()
    assert "and epsilon and delta do not hold" in sentences(asked(**ASSUMED, stop="original"))[-1]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"epsilon": 0.5}, "give gradient_bound and convexity"),
        ({**ASSUMED, "epsilon": 2.0}, "epsilon = 2.0"),
        ({**ASSUMED, "delta": 0.0}, "delta = 0.0"),
        ({**ASSUMED, "channels": "selected"}, "noise must reach every parameter"),
    ],
)
def test_a_claim_that_cannot_be_made_is_refused(options, match) -> None:
    with pytest.raises(SettingsError, match=match):
        Claim.of(asked(**options))
