from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedunlearn.audit.measured import Kind, Measured
from fedunlearn.audit.verdict import judge_metric
from fedunlearn.reports.plots.strip import strip_of

RATES = st.floats(0.1, 0.85)
LOSSES = st.floats(0.01, 20.0)


def check(measured: Measured) -> None:
    judged = judge_metric(measured, 3)
    strip = strip_of(judged.document())
    assert strip.band is not None and strip.bar is not None
    outside = not strip.band[0] <= strip.unlearned <= strip.band[1]
    assert outside == (judged.outcome == "fail")
    if judged.outcome in ("pass", "open"):
        assert strip.goal is not None
        inside = strip.goal[0] <= strip.bar[0] and strip.bar[1] <= strip.goal[1]
        assert judged.bound is not None and judged.margin is not None
        assume(abs(judged.bound - judged.margin) > 1e-6)
        assert inside == (judged.outcome == "pass")
    if judged.informative is False:
        assert strip.goal is None


@settings(max_examples=60, deadline=None)
@given(LOSSES, LOSSES, st.lists(LOSSES, min_size=2, max_size=9))
def test_a_removal_passes_within_its_goal_and_fails_outside_its_band(o: float, u: float, r: list[float]) -> None:
    check(Measured("forget_loss", "removal", "log", o, u, tuple(r)))


@settings(max_examples=60, deadline=None)
@given(RATES, st.floats(-0.03, 0.03), RATES, st.lists(st.floats(-0.01, 0.01), min_size=2, max_size=9))
def test_a_utility_passes_within_its_goal_and_fails_outside_its_band(
    centre: float, off: float, o: float, r: list[float]
) -> None:
    kind: Kind = "utility"
    check(Measured("test_accuracy", kind, "logit", o, centre + off, tuple(centre + one for one in r), 1000))


@settings(max_examples=60, deadline=None)
@given(LOSSES, LOSSES, st.lists(LOSSES, max_size=4))
def test_all_marks_are_in_view_and_ticks_say_where_they_are(o: float, u: float, r: list[float]) -> None:
    strip = strip_of(judge_metric(Measured("forget_loss", "removal", "log", o, u, tuple(r)), 1).document())
    low, high = strip.view
    assert all(low < place < high for place in (strip.original, strip.unlearned, *strip.retrained))
    ticks = strip.ticks()
    assert len(ticks) >= 1
    for place, value in ticks:
        assert abs(strip.forward(value) - place) < 1e-9
    gaps = [after - before for (before, _), (after, _) in itertools.pairwise(ticks)]
    assert all(gap > 0.08 * (high - low) for gap in gaps)


def test_a_band_that_would_hide_the_rest_is_cut_off(make_audit: Callable[..., dict[str, Any]]) -> None:
    entry = make_audit(models=2)["primary"][1]
    strip = strip_of(entry)
    assert strip.band is not None
    assert strip.view[0] > strip.band[0] and strip.view[1] < strip.band[1]


def test_canaries_alone_stand_on_their_own_scale(make_audit: Callable[..., dict[str, Any]]) -> None:
    audit = make_audit(models=3, canaries=0.55)
    strip = strip_of({**audit["canaries"], "alone": True})
    assert (strip.original, strip.unlearned, strip.mean, strip.retrained) == (0.93, 0.55, 0.5, ())
    assert strip.band is not None and strip.band[0] < 0.55 < strip.band[1]
