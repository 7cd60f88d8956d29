from __future__ import annotations

import subprocess
import sys

import pytest

from fedunlearn.audit import Metric, metrics
from fedunlearn.errors import UnknownName

REPORTED = {
    "test_accuracy",
    "test_accuracy_by_class",
    "retain_accuracy",
    "forget_accuracy",
    "forget_loss",
    "backdoor_success",
    "canary_exposure",
    "membership_auc",
    "cost",
}


def test_everything_reported_is_registered_and_explained() -> None:
    assert set(metrics.names()) >= REPORTED
    for name in metrics.names():
        metric = metrics.get(name)
        assert isinstance(metric, Metric) and metric.name == name
        assert metric.what.endswith(".") and "\n" not in metric.what
        assert metric.better in ("retrained", "lower")


def test_an_unknown_metric_is_named() -> None:
    with pytest.raises(UnknownName, match="test_accuracy"):
        metrics.get("test_acuracy")


def test_listing_them_needs_no_torch() -> None:
    program = "import sys, fedunlearn.audit; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
