from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedunlearn.reports.audit_trail import AuditTrail, Certified
from fedunlearn.reports.page import page
from fedunlearn.reports.write import write_report

MakeAudit = Callable[..., dict[str, Any]]
EVIL = "<script>alert('x')</script>\"&"


@pytest.fixture
def audited(document: dict[str, Any]) -> dict[str, Any]:
    """A comparison of the request and model that `make_audit` judges."""
    document["request"]["id"] = "client-0-1"
    document["models"]["unlearned"]["digest"] = "b" * 64
    return document


def text_of(html: str) -> str:
    body = re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def h1(html: str) -> list[str]:
    return re.findall(r"<h1>(.*?)</h1>", html)


def test_the_verdict_is_the_answer_and_the_comparison_follows(audited: dict[str, Any], make_audit: MakeAudit) -> None:
    html = page(audited, [], AuditTrail((make_audit(),)))
    assert h1(html) == ["Passed: it behaves like a model that never saw the data."]
    text = text_of(html)
    assert text.index("What this does not mean.") < text.index("What the audit says") < text.index("Mostly forgotten.")
    assert "In the verdict's own words" in text and "is not a certificate and no" not in text


def test_without_an_audit_the_page_is_as_it_was(audited: dict[str, Any], make_audit: MakeAudit) -> None:
    assert page(audited, []) == page(audited, [], AuditTrail((make_audit(request="client-5-1"),)))
    assert "What the audit says" not in page(audited, [])


@pytest.mark.parametrize("change", ["model", "verdict", "damage"])
def test_an_audit_that_does_not_hold_is_named_and_is_not_the_answer(
    audited: dict[str, Any], make_audit: MakeAudit, change: str
) -> None:
    audit = make_audit(loss=0.09)
    if change == "model":
        audit["unlearned"] = "c" * 64
    elif change == "verdict":
        audit["verdict"] = "pass"
    else:
        audit["primary"][0]["original"] = 2.0
    html = page(audited, [], AuditTrail((audit,)))
    assert h1(html) == ["Mostly forgotten."]
    assert "Audit it again." in text_of(html)


def test_all_requests_with_their_latest_judgement(audited: dict[str, Any], make_audit: MakeAudit) -> None:
    first = make_audit(created="2026-01-01T00:00:00")
    second = make_audit(request="client-1-1", clients=[1], accuracy=0.935, created="2026-01-02T00:00:00")
    second["earlier"] = [make_audit(loss=0.09)]
    html = page(audited, [], AuditTrail((first, second)))
    section = text_of(html.split("All requests so far", 1)[1].split("</section>", 1)[0])
    assert "1 failed" in section and "after client-1-1" in section and "−1.0 points" in section
    assert "All requests so far" not in page(audited, [], AuditTrail((first,)))


def test_what_comes_from_outside_cannot_become_markup(audited: dict[str, Any], make_audit: MakeAudit) -> None:
    audited["request"]["id"] = EVIL
    audit = make_audit(request=EVIL, clients=[EVIL], classes=[EVIL], left_out={EVIL: EVIL})
    audit["described"] = {EVIL: {"original": 0.5, "unlearned": 0.5, "retrained": [0.5], "refused": EVIL}}
    certified = Certified(None, EVIL, audit["unlearned"])
    html = page(audited, [], AuditTrail((audit, make_audit(request="client-1-1")), {EVIL: certified}))
    assert "What the audit says" in html and "not in the run folder" in html
    assert html.count("<script>") == 1


def test_a_model_that_is_not_in_use_is_called_so(audited: dict[str, Any], make_audit: MakeAudit) -> None:
    html = page(audited, [], AuditTrail((make_audit(),), served="c" * 64))
    assert "not the one that is in use now" in html


def test_the_strips_are_written_and_in_the_page(audited: dict[str, Any], make_audit: MakeAudit, tmp_path: Path) -> None:
    written = write_report({**audited, "rounds": {}}, tmp_path, AuditTrail((make_audit(),)))
    assert tmp_path / "figures" / "verdict.png" in written
    html = written[0].read_text()
    assert html.index("data:image/png") < html.index("In the verdict")
    assert "Back-door success: 88.4% before, 1.2% now" in html
    damaged = make_audit()
    damaged["primary"][0]["original"] = 2.0
    write_report(audited, tmp_path, AuditTrail((damaged,)))
    assert not (tmp_path / "figures" / "verdict.png").exists()


def test_a_metric_that_is_refused_is_told_once(audited: dict[str, Any], make_audit: MakeAudit) -> None:
    """A task without classes refuses many metrics, each with several values."""
    audit = make_audit()
    nothing = {"original": None, "unlearned": None, "retrained": [None], "refused": "m has no classes."}
    audit["described"] = {
        "m": nothing,
        "m.second": nothing,
        "m.third": {**nothing, "original": 0.25},
        "m.fourth": {**nothing, "refused": "m has no samples."},
    }
    text = text_of(page(audited, [], AuditTrail((audit,))))
    assert "m has no classes." in text and "m has no samples." in text and "m.third" in text
    assert "m.second" not in text
