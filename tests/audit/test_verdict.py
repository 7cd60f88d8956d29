from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.audit.band_width import factor, uncertainty
from fedunlearn.audit.measured import Measured
from fedunlearn.audit.verdict import judge, judge_metric, utility_margin
from fedunlearn.errors import DataError

# Logarithms -1.5, -1.0, -0.5, 0, 0, 0.5, 1.0, 1.5: mean 0, sum of squares 7, deviation 1.
SPREAD = tuple(math.exp(x) for x in (-1.5, -1.0, -0.5, 0.0, 0.0, 0.5, 1.0, 1.5))


def removal(original: float, unlearned: float, retrained: tuple[float, ...] = SPREAD, name: str = "loss") -> Measured:
    """A loss, by the logarithms of original and unlearned."""
    return Measured(name, "removal", "log", math.exp(original), math.exp(unlearned), retrained)


def utility(unlearned: float, retrained: tuple[float, ...] = (0.95,) * 8, samples: int = 1000) -> Measured:
    return Measured("test_accuracy", "utility", "logit", 0.96, unlearned, retrained, samples)


def test_the_figures_of_a_metric_by_hand() -> None:
    judged = judge_metric(removal(20.0, -2.0), metrics=1)
    limit = 3.499483 * math.sqrt(9 / 8)  # t(0.995, 7) from the tables, s = 1
    assert judged.mean == pytest.approx(0.0, abs=1e-12) and judged.deviation == pytest.approx(1.0)
    assert judged.limit == pytest.approx(limit, rel=1e-6)
    assert judged.interval == pytest.approx((math.exp(-limit), math.exp(limit)), rel=1e-5)
    assert judged.margin == pytest.approx(5.0) and judged.informative
    assert judged.bound == pytest.approx(2.0 + 1.894579 / math.sqrt(8), rel=1e-6)
    assert judged.outcome == "pass"
    assert judged.separation == pytest.approx(20.0) and judged.excess == pytest.approx(2.0 / limit, rel=1e-6)


def test_five_metrics_make_the_interval_wider() -> None:
    one, five = (judge_metric(removal(20.0, -4.0), metrics=m) for m in (1, 5))
    assert one.outcome == "fail" and five.outcome == "pass"
    assert five.limit == pytest.approx(4.785290 * math.sqrt(9 / 8), rel=1e-6)


@pytest.mark.parametrize(
    ("original", "unlearned", "outcome"),
    [
        (20.0, 0.0, "pass"),
        (20.0, 3.6, "pass"),  # over by less than the limit of 3.71, and within 5
        (20.0, 3.8, "fail"),  # forgotten too well is not forgotten as retraining forgets
        (20.0, -3.8, "fail"),
        (-8.0, -1.0, "pass"),  # margin 2, bound 1.67
        (-8.0, -1.5, "inconclusive"),  # margin 2, bound 2.17
        (-3.0, 0.0, "inconclusive"),  # the original itself is within the limit
        (-3.0, -3.8, "fail"),  # …but a model outside of it is none of the retrained
    ],
)
def test_one_removal_metric(original: float, unlearned: float, outcome: str) -> None:
    assert judge([removal(original, unlearned)]).outcome == outcome


def test_the_margin_of_utility_is_one_of_accuracy() -> None:
    """Without spread the bound is the difference itself."""
    forgotten = removal(20.0, 0.0)
    for unlearned, outcome in ((0.95, "pass"), (0.94, "fail")):
        assert judge([forgotten, utility(unlearned)]).outcome == outcome  # no spread: only the same rate is inside
    # A spread as wide as the margin, of so many models that its middle is known.
    rates = tuple(0.95 + 0.004 * x for x in (-1.5, -1.0, -0.5, 0.0, 0.0, 0.5, 1.0, 1.5))
    judged = {u: judge_metric(utility(u, rates), 2) for u in (0.955, 0.943, 0.936, 0.93, 0.91)}
    assert [one.outcome for one in judged.values()] == ["pass", "pass", "open", "open", "fail"]
    one = judged[0.943]
    assert one.margin == 0.015 and one.mean is not None and one.deviation is not None
    ends = []
    for sign in (-1, 1):
        logit = one.mean + sign * 1.894579 / math.sqrt(8) * one.deviation
        smoothed = 1 / (1 + math.exp(-logit))
        ends.append(abs(0.943 - (smoothed * 1001 - 0.5) / 1000))
    assert one.bound == pytest.approx(max(ends), rel=1e-5)


def test_better_than_retrained_is_not_like_retrained() -> None:
    rates = tuple(0.90 + 0.004 * x for x in (-1.5, -1.0, -0.5, 0.0, 0.0, 0.5, 1.0, 1.5))
    assert judge([removal(20.0, 0.0), utility(0.96, rates)]).outcome == "fail"


def test_an_uninformative_metric_neither_helps_nor_hinders() -> None:
    silent = removal(-1.0, -1.5, name="silent")
    verdict = judge([removal(20.0, 0.0), silent])
    assert verdict.outcome == "pass" and "silent cannot tell" in verdict.why
    assert judge([silent]).outcome == "inconclusive"


@pytest.mark.parametrize("models", range(8))
def test_fewer_than_eight_models_never_pass(models: int) -> None:
    verdict = judge([removal(20.0, 0.0, SPREAD[:models]), utility(0.95, (0.95,) * models)])
    assert verdict.outcome == "inconclusive"
    few = f"{models} retrained model" if models else "there is no retrained model to show"
    assert verdict.why.startswith(few) and "8 at least" in verdict.why
    assert verdict.models == models


def test_few_models_may_fail() -> None:
    assert judge([removal(20.0, 20.0, (1.0, 1.1, 0.9))]).outcome == "fail"


def test_why_names_the_metric_and_what_would_decide() -> None:
    failed = judge([removal(20.0, 20.0), removal(20.0, 0.0, name="other")])
    assert failed.why.startswith("loss is ") and "other" not in failed.why
    open_ = judge([removal(-8.0, -1.5)])
    assert open_.why.startswith("loss is not close enough")
    (judged,) = open_.metrics
    assert judged.models is not None and f"{judged.models} retrained models would decide loss" in open_.why
    hopeless = judge([removal(-8.0, -2.2)])
    assert "no number of models decides loss" in hopeless.why and hopeless.metrics[0].models is None
    silent = judge([removal(-2.0, 0.0)])
    assert "do not differ enough in loss" in silent.why and "no number of models" in silent.why


@pytest.mark.parametrize(("original", "unlearned"), [(-8.0, -1.5), (-8.0, -2.9), (-3.0, 0.0)])
def test_so_many_models_decide_indeed(original: float, unlearned: float) -> None:
    (judged,) = judge([removal(original, unlearned)]).metrics
    assert judged.models is not None
    apart, gap = abs(original), abs(unlearned)

    def decided(n: int) -> bool:
        reach = factor(n, 1)
        if judged.outcome == "uninformative":
            return apart > reach
        return gap > reach or gap + uncertainty(n) <= apart / 4

    assert decided(judged.models) and not decided(judged.models - 1)


def test_more_canaries_decide_where_counting_is_what_varies() -> None:
    exposures = tuple(0.5 + 0.01 * x for x in (-1.5, -1.0, -0.5, 0.0, 0.0, 0.5, 1.0, 1.5))
    few = Measured("canary_exposure", "removal", "logit", 0.58, 0.515, exposures, 100)
    verdict = judge([few])
    (judged,) = verdict.metrics
    assert verdict.outcome == "inconclusive" and judged.samples is not None and judged.samples > 100
    assert f"{judged.samples} canaries would decide canary_exposure" in verdict.why
    assert judge_metric(removal(-8.0, -1.5), 1).samples is None


@pytest.mark.parametrize(
    ("several", "said"),
    [
        ([], "1 to 5 metrics"),
        ([removal(-1, 0, name=str(i)) for i in range(6)], "1 to 5 metrics"),
        ([removal(-1, 0), removal(-1, 0)], "each once"),
        ([removal(-1, 0), utility(0.9, (0.9,) * 7)], "bands of"),
    ],
)
def test_what_is_no_set_of_metrics_is_refused(several: list[Measured], said: str) -> None:
    with pytest.raises(DataError, match=said):
        judge(several)


losses = st.lists(st.floats(0.01, 10.0), min_size=8, max_size=24)


@given(losses, st.floats(1e-4, 100.0), st.floats(1e-4, 100.0), st.randoms(use_true_random=False))
def test_the_order_of_the_models_does_not_matter(
    retrained: list[float], original: float, unlearned: float, order: random.Random
) -> None:
    shuffled = list(retrained)
    order.shuffle(shuffled)
    one, other = (
        judge([Measured("a", "removal", "log", original, unlearned, tuple(x))]) for x in (retrained, shuffled)
    )
    assert (one.outcome, one.why) == (other.outcome, other.why)
    assert one.metrics[0].document() | {"retrained": 0} == other.metrics[0].document() | {"retrained": 0}


@given(losses, st.floats(1.5, 1e6))
def test_the_mean_of_a_tight_band_passes(retrained: list[float], distance: float) -> None:
    """u = r: with an informative metric it passes if and only if the mean is known well enough for the margin."""
    logs = [math.log(x) for x in retrained]
    mean = math.fsum(logs) / len(logs)
    measured = removal(mean + math.log(distance), mean, tuple(retrained))
    (judged,) = judge([measured]).metrics
    assert judged.outcome != "fail"
    if judged.informative:
        tight = uncertainty(len(logs)) * judged.deviation <= 0.25 * math.log(distance)  # type: ignore[operator]
        assert judge([measured]).outcome == ("pass" if tight else "inconclusive")


@given(losses, st.floats(1e-4, 100.0))
def test_the_original_under_a_new_name_never_passes(retrained: list[float], original: float) -> None:
    assert judge([Measured("a", "removal", "log", original, original, tuple(retrained))]).outcome != "pass"


@given(losses, st.floats(1e-4, 100.0), st.floats(1e-4, 100.0), st.floats(0.1, 10.0))
def test_the_unit_of_a_loss_does_not_matter(retrained: list[float], o: float, u: float, unit: float) -> None:
    def outcome(scale: float) -> tuple[str, float]:
        values = tuple(scale * value for value in retrained)
        judged = judge([Measured("a", "removal", "log", scale * o, scale * u, values)])
        return judged.outcome, judged.metrics[0].excess

    one, other = outcome(1.0), outcome(unit)
    assert one[1] == pytest.approx(other[1], rel=1e-6, abs=1e-6)
    if abs(one[1] - 1) > 1e-6:
        assert ("fail" in one) == ("fail" in other)


def test_a_retrained_model_fails_in_about_one_case_of_a_hundred() -> None:
    draw = random.Random(7)
    failed = 0
    for _ in range(4000):
        several = []
        for name in "abcd":
            values = [math.exp(draw.gauss(0, 0.1)) for _ in range(9)]
            several.append(removal(-5.0, math.log(values[0]), tuple(values[1:]), name))
        failed += judge(several).outcome == "fail"
    # Four independent metrics share the 0.01; 4000 draws have a standard error of 0.0016.
    assert 0.005 < failed / 4000 < 0.015


@pytest.mark.parametrize(
    ("decibels", "outcome"),
    [(0.0, "pass"), (0.2, "pass"), (-0.2, "pass"), (0.28, "open"), (0.32, "fail"), (-0.4, "fail")],
)
def test_the_margin_of_a_loss_is_three_tenths_of_a_decibel(decibels: float, outcome: str) -> None:
    """Where nothing is answered right or wrong; without a spread only the same loss is inside the interval."""
    loss = Measured("test_loss", "utility", "log", 0.02, 0.02 * 10 ** (decibels / 10), (0.02,) * 8)
    assert utility_margin(loss) == pytest.approx(math.log(10**0.03))
    found = judge_metric(loss, 2)
    assert found.outcome == ("fail" if decibels else "pass")
    assert found.bound == pytest.approx(abs(decibels) / 10 * math.log(10), abs=1e-12)
    rates = tuple(0.02 * 10 ** (one / 10) for one in (-0.1, 0.1) * 20)
    assert judge_metric(Measured("test_loss", "utility", "log", 0.02, loss.unlearned, rates), 2).outcome == outcome
