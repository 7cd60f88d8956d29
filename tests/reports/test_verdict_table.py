from __future__ import annotations

from typing import Any

from fedunlearn.audit.canary_verdict import judge_canaries
from fedunlearn.audit.measured import Measured
from fedunlearn.audit.verdict_document import find
from fedunlearn.reports.verdict_table import HEADS, markdown, rows, sentences

LOSSES = (0.20, 0.21, 0.22, 0.23, 0.21, 0.20, 0.22, 0.24)


def document(models: int = 8, canaries: bool = False, **changes: Any) -> dict[str, Any]:
    measured = [
        Measured("forget_loss", "removal", "log", 0.05, 0.21, LOSSES[:models]),
        Measured("test_accuracy", "utility", "logit", 0.96, 0.951, (0.95, 0.952) * (models // 2), 1000),
    ]
    found = find(measured, judge_canaries(0.9, 0.51, 300, 10) if canaries else None)
    accuracy = {"before": 0.96, "unlearned": 0.951, "retrained": 0.951, "lost": 0.009}
    whole = {**found.document(), "request": "client-0-1", "band": {"size": models}, "accuracy": accuracy}
    return {**whole, **changes}


def test_a_row_a_metric() -> None:
    shown = rows(document())
    assert [len(row) for row in shown] == [len(HEADS)] * 2
    assert shown[0][:4] == ("forget_loss", "0.050", "0.210", "0.216")
    low, _, high = shown[0][4].partition(" – ")
    assert float(low) < 0.21 < float(high) and shown[0][6] == "yes"


def test_without_a_band_there_is_nothing_to_compare_with() -> None:
    shown = rows(document(0))
    assert [row[3:6] for row in shown] == [("–", "–", "–")] * 2
    assert [row[6] for row in shown] == ["cannot tell", "undecided"]


def test_canaries_have_a_row_where_the_verdict_rests_on_them() -> None:
    assert [row[0] for row in rows(document(8, canaries=True))] == ["forget_loss", "test_accuracy"]
    last = rows(document(0, canaries=True))[-1]
    assert last[0] == "canaries alone" and last[3] == "chance 0.5" and last[6] == "yes"


def test_everything_that_was_found_is_said() -> None:
    earlier = {**document(), "request": "class-1"}
    said = sentences(
        document(
            earlier=[earlier],
            left_out={"canary_exposure": "withheld."},
            restored={"from": "a", "to": "b", "why": "the audit failed."},
        )
    )
    assert said[0].startswith("Pass: on forget_loss, test_accuracy")
    assert "canary_exposure: withheld." in said and "The audit failed." in said
    assert any(one.startswith("Earlier request class-1, judged again: pass") for one in said)
    assert any("96.0% before the first request, 95.1% now (8 retrained models: 95.1%)" in one for one in said)


def test_a_judged_model_that_is_not_the_one_in_use_is_told() -> None:
    told = "The judged model, made by “scrub”, is not the one that is in use now."
    judged = [document(in_use=kept, method={"method": "scrub"}) for kept in (False, True)]
    assert [told in sentences(one) for one in judged] == [True, False]


def test_markdown_has_the_verdict_and_the_table() -> None:
    text = markdown(document())
    assert text.startswith("**Pass: ") and "| forget_loss | 0.050 |" in text and text.endswith(".\n")
