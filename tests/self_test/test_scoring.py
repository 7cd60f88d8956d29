from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedunlearn.audit.calibration import LEFT_OUT
from fedunlearn.audit.primary import primary_metrics
from fedunlearn.reports.self_test_tables import case_sentences, headline, markdown, rows
from fedunlearn.self_test.cases import Case, Subject
from fedunlearn.self_test.models import METHOD
from fedunlearn.self_test.scoring import pooled, score
from fedunlearn.server.primary_figures import Figure

CASE = Case(
    name="client",
    federation={},
    request={},
    wrong={},
    rolled_back=1,
    subjects={
        "do-nothing": Subject(what="the original", caught_by=("forget_loss",)),
        "broken": Subject(what="noise", caught_by=("test_accuracy",)),
        "perfect": Subject(what="a retrained model", caught_by=("forget_loss",)),
    },
)


def figures(loss: float, accuracy: float) -> dict[str, Figure]:
    return {"forget_loss": Figure(loss), "test_accuracy": Figure(accuracy, 1000), "other": Figure(0.5, 3)}


@pytest.fixture
def scored() -> dict[str, Any]:
    generator = np.random.default_rng(4)
    pool = [figures(float(np.exp(generator.normal(0, 0.05))), 0.95 + 0.001 * generator.normal()) for _ in range(30)]
    subjects = {
        "do-nothing": figures(0.2, 0.95),
        "broken": figures(1.0, 0.7),
        "perfect": figures(1.0, 0.95),
        METHOD: figures(0.9, 0.95),
    }
    metrics = pooled(primary_metrics(["client"], []), figures(0.2, 0.96), pool, subjects)
    return score(CASE, metrics, (8, 20), repetitions=20, seed=0)


def test_who_is_retrained_passes_and_who_is_not_is_caught(scored: dict[str, Any]) -> None:
    assert scored["far_enough"] and scored["separation"]["forget_loss"] > 16
    for size in ("8", "20"):
        subjects = scored["bands"][size]["subjects"]
        assert subjects[LEFT_OUT]["asked"] == {"not failed": True, "passed": True}
        for name in ("do-nothing", "broken"):
            assert subjects[name]["asked"] == {"not passed": True, "failed where it can be told": True}
            assert (subjects[name]["tellable"], subjects[name]["failed_where_tellable"]) == (20, 20)
        # What is no different from a retrained model is taken for one: then the self-test says so.
        assert subjects["perfect"]["asked"]["not passed"] is False
        assert subjects[METHOD]["asked"] == {}


def test_a_metric_that_one_model_lacks_is_not_judged() -> None:
    lacking = {"test_accuracy": Figure(0.9, 1000)}
    found = pooled(primary_metrics(["client"], []), figures(0.2, 0.96), [figures(1.0, 0.95)], {"a": lacking})
    assert [metric.name for metric in found] == ["test_accuracy"]


def test_the_tables(scored: dict[str, Any]) -> None:
    made = {"packages": {"torch": "2.6", "captum": None}, "python": "3.11", "source": "a" * 64}
    document = {
        "met": False,
        "models": 30,
        "repetitions": 20,
        "date": "2025-01-01",
        "environment": made,
        "cases": {"client": scored},
    }
    first, *others = rows(scored, "8")
    assert first[0] == LEFT_OUT and first[-1] == "yes" and {row[0] for row in others} >= {"do-nothing: the original"}
    answers = {row[0].partition(":")[0]: row[-1] for row in others}
    assert answers["perfect"].startswith("no: not passed") and answers[METHOD] == "–"
    assert "Not all that was asked" in headline(document)
    assert "too near" not in case_sentences("client", scored)[0]
    text = markdown(document)
    assert "Band of 8:" in text and "Band of 20:" in text and "torch 2.6" in text and "captum" not in text
    assert case_sentences("client", {**scored, "far_enough": False})[0].endswith("metric of removal.")
