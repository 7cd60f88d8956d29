from __future__ import annotations

import pytest

from fedunlearn.audit.metric import measurable, metrics
from fedunlearn.audit.tiers import TIERS


def test_every_metric_that_is_measured_by_name_has_its_place() -> None:
    built_in = {name for name in measurable() if str(metrics.get(name).measure).find("fedunlearn.audit") >= 0}
    assert set(TIERS) == built_in


@pytest.mark.parametrize("name", TIERS)
def test_the_table_says_what_the_metric_says(name: str) -> None:
    placed = TIERS[name]
    assert metrics.get(name).tier == placed.tier
    assert placed.why.endswith(".") and "\n" not in placed.why


def test_quick_needs_no_model_beyond_the_one_before_and_one_retrained() -> None:
    for name, placed in TIERS.items():
        if placed.tier == "quick":
            assert set(metrics.get(name).needs) <= {"before", "retrained"}
