from __future__ import annotations

import subprocess
import sys

import pytest

from fedunlearn.audit import Metric, metrics
from fedunlearn.audit.metric import Later, Value, count, measurable
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


def test_a_tier_holds_those_below_it() -> None:
    quick, standard, full = (set(measurable(tier)) for tier in ("quick", "standard", "full"))
    assert "membership_auc" in quick < standard < full
    assert {"rmia_auc", "lira_auc"} <= standard - quick and "u_lira_auc" in full - standard
    assert "cost" not in full


def test_too_few_models_are_refused_in_one_sentence() -> None:
    metric = Metric("m", "A test, 0 to 1.", needs={"references": 2, "before": 1}, limits="they are the denominator.")
    assert metric.lacking({"references": 2, "before": 1}) is None
    refused = metric.lacking({"references": 1, "before": 1})
    assert refused == "m needs 2 retrained reference models and was given 1; they are the denominator."
    assert "the model before unlearning (1) and was given 0" in str(metric.lacking({"references": 2}))


def test_values_say_what_the_verdict_needs() -> None:
    assert Value.rate(0.25, 40.9) == Value(0.25, "rate", 40)
    assert Value.loss(1.5).as_dict() == {"value": 1.5, "kind": "loss", "of": None, "refused": ""}
    assert Value.refusal("no.").value is None and Value.refusal("no.").refused == "no."


def test_a_function_is_imported_when_it_is_called() -> None:
    assert Later("fedunlearn.audit.metric", "count")(True) == count(True)
