from __future__ import annotations

import math
import random

import pytest

from fedunlearn.audit.canary_verdict import judge_canaries, judge_canaries_of
from fedunlearn.errors import DataError


def test_the_figures_by_hand() -> None:
    found = judge_canaries(0.963, 0.528, canaries=300, classes=10)
    deviation = math.sqrt(80 / (768 * 300))
    assert found.deviation == pytest.approx(deviation)
    assert found.limit == pytest.approx(2.575829 * deviation)
    assert found.margin == pytest.approx(0.25 * 0.463)
    assert found.bound == pytest.approx(0.028 + 1.644854 * deviation)
    assert found.informative and found.outcome == "pass" and found.needed is None


@pytest.mark.parametrize(
    ("original", "unlearned", "canaries", "outcome"),
    [
        (0.963, 0.562, 300, "fail"),  # 3.3 deviations: as the first rule left it
        (0.963, 0.44, 300, "fail"),  # rarer than chance gives them away as much
        (0.963, 0.5, 300, "pass"),
        (0.7, 0.545, 300, "inconclusive"),  # within chance, but not within a quarter of the way
        (0.52, 0.5, 300, "inconclusive"),  # the original did not learn them
        (0.963, 0.7, 5, "inconclusive"),  # five canaries say little
    ],
)
def test_the_rule(original: float, unlearned: float, canaries: int, outcome: str) -> None:
    found = judge_canaries(original, unlearned, canaries, 10)
    assert found.outcome == outcome
    if outcome != "inconclusive" or found.informative:
        assert "nothing of accuracy" in found.why


def test_so_many_canaries_decide() -> None:
    for original, unlearned in ((0.7, 0.545), (0.9, 0.58)):
        few = judge_canaries(original, unlearned, 40, 10)
        assert few.outcome == "inconclusive" and few.needed is not None and str(few.needed) in few.why
        assert judge_canaries(original, unlearned, few.needed, 10).outcome != "inconclusive"
        assert judge_canaries(original, unlearned, few.needed - 1, 10).outcome == "inconclusive"
    silent = judge_canaries(0.52, 0.5, 300, 10)
    assert silent.needed is not None and judge_canaries(0.52, 0.5, silent.needed + 1, 10).informative
    assert judge_canaries(0.5, 0.5, 300, 10).needed is None


def test_a_model_that_never_saw_them_fails_in_one_case_of_a_hundred() -> None:
    draw = random.Random(3)
    failed = 0
    for _ in range(3000):
        exposures = [draw.randrange(9) / 8 for _ in range(100)]
        failed += judge_canaries(0.95, sum(exposures) / 100, 100, 10).outcome == "fail"
    assert 0.005 < failed / 3000 < 0.016


def test_it_is_found_again_from_the_document() -> None:
    found = judge_canaries(0.9, 0.52, 200, 10)
    assert judge_canaries_of(found.document()) == found
    with pytest.raises(DataError, match="damaged"):
        judge_canaries_of({"original": 0.9})


@pytest.mark.parametrize("values", [(1.1, 0.5), (0.5, -0.1), (math.nan, 0.5)])
def test_what_is_no_exposure_is_refused(values: tuple[float, float]) -> None:
    with pytest.raises(DataError, match="expected a mean exposure"):
        judge_canaries(*values, 100, 10)
