from __future__ import annotations

import pytest

from fedunlearn.audit.tow import TUG_OF_WAR_BY_MEMBERSHIP, tug_of_war


def test_the_product_by_hand() -> None:
    values = {"forget_accuracy": 0.9, "retain_accuracy": 0.95, "test_accuracy": 0.8, "membership_auc": 0.7}
    retrained = {"forget_accuracy": 0.5, "retain_accuracy": 1.0, "test_accuracy": 0.9, "membership_auc": 0.5}
    assert tug_of_war(values, retrained) == pytest.approx(0.6 * 0.95 * 0.9)
    assert tug_of_war(values, retrained, TUG_OF_WAR_BY_MEMBERSHIP) == pytest.approx(0.8 * 0.95 * 0.9)
    assert tug_of_war(retrained, retrained) == 1.0


def test_a_split_that_is_not_known_leaves_no_product() -> None:
    values = {"forget_accuracy": 0.9, "retain_accuracy": 0.95, "test_accuracy": 0.8}
    assert tug_of_war(values, {**values, "forget_accuracy": None}) is None
