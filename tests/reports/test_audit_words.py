from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fedunlearn.audit.primary import primary_metrics
from fedunlearn.reports.audit_words import accuracy_sentence, headline, meaning, not_meant, reasons
from fedunlearn.reports.metric_words import wording

MakeAudit = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("values", "start", "limit"),
    [
        ({}, "Passed", "nothing at all"),
        ({"loss": 0.09}, "Failed", "stays out of all training"),
        ({"models": 3}, "Not decided", "nor that it is not"),
        ({"models": 3, "canaries": 0.55}, "Passed on planted samples alone", "nothing of the other samples"),
        ({"models": 3, "canaries": 0.9}, "Failed", "nothing of the other samples"),
    ],
)
def test_the_answer_says_what_it_means_and_what_not(
    make_audit: MakeAudit, values: dict[str, Any], start: str, limit: str
) -> None:
    audit = make_audit(**values)
    assert headline(audit).startswith(start)
    assert limit in not_meant(audit)
    assert meaning(audit).endswith(".") and reasons(audit)


def test_a_failure_says_to_which_side(make_audit: MakeAudit) -> None:
    assert any("still remembered" in line for line in reasons(make_audit(loss=0.09)))
    assert any("damage" in line for line in reasons(make_audit(loss=0.6)))
    assert any("got worse" in line for line in reasons(make_audit(accuracy=0.90)))


def test_what_is_undecided_says_what_would_decide_it(make_audit: MakeAudit) -> None:
    (line,) = reasons(make_audit(accuracy=0.9346))
    assert line.startswith("Test accuracy") and "would decide it" in line


def test_what_became_of_a_failed_model_is_said(make_audit: MakeAudit) -> None:
    audit = make_audit(loss=0.09, restored={"from": "b", "to": "a", "why": "the model from before is served again."})
    assert reasons(audit)[-1] == "The model from before is served again."
    assert "Not judged" in reasons(make_audit(left_out={"probe_loss": "withheld."}))[-1]


def test_accuracy_lost_so_far(make_audit: MakeAudit) -> None:
    assert "94.5% before the first request, 93.5% now (−1.0 points)" in accuracy_sentence(make_audit(accuracy=0.935))
    assert accuracy_sentence(make_audit(accuracy=0.935) | {"accuracy": None}) == ""


@pytest.mark.parametrize("scopes", [["client"], ["class-everywhere"]])
def test_every_primary_metric_has_words(scopes: list[str]) -> None:
    for parts in ([], ["triggered"], ["untriggered"], ["canaries"]):
        for metric in primary_metrics(scopes, parts):
            assert wording({"metric": metric.name, "transform": metric.transform}).meaning
