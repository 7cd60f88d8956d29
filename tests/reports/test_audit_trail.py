from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fedunlearn.reports.audit_trail import AuditTrail, Certified, in_order

MakeAudit = Callable[..., dict[str, Any]]


def test_an_audit_is_found_whatever_the_order_of_its_requests(make_audit: MakeAudit) -> None:
    audit = make_audit(request="client-0-1+client-1-1")
    trail = AuditTrail((audit,))
    assert trail.audit_of("client-1-1+client-0-1") is audit
    assert trail.audit_of("client-0-1") is None


def test_a_request_stands_as_its_latest_judgement_says(make_audit: MakeAudit) -> None:
    first = make_audit(created="2026-01-01")
    second = make_audit(request="client-1-1", created="2026-01-02", earlier=[{**make_audit(loss=0.09)}])
    one, two = AuditTrail((first, second)).standings()
    assert first["verdict"] == "pass" and one.judged["verdict"] == "fail"
    assert one.is_again and one.by is second
    assert two.judged is second and not two.is_again


def test_an_own_audit_that_is_newer_counts(make_audit: MakeAudit) -> None:
    first = make_audit(created="2026-01-03")
    second = make_audit(request="client-1-1", created="2026-01-02", earlier=[{**make_audit(loss=0.09)}])
    assert AuditTrail((first, second)).standings()[0].judged is first


def test_a_certificate_of_another_model_is_not_shown(make_audit: MakeAudit) -> None:
    audit = make_audit()
    own, other = Certified({}, "a", audit["unlearned"]), Certified({}, "b", "c" * 64)
    assert AuditTrail((audit,), {"client-0-1": own}).certificate_of(audit) is own
    assert AuditTrail((audit,), {"client-0-1": other}).certificate_of(audit) is None


def test_audits_come_in_the_order_of_serving_and_the_unserved_last(make_audit: MakeAudit) -> None:
    names = ["client-2-1", "client-0-1+client-3-1", "client-1-1"]
    audits = [make_audit(request=name) for name in names]
    found = in_order(audits, ["client-3-1+client-0-1", "client-2-1"])
    assert [one["request"] for one in found] == ["client-0-1+client-3-1", "client-2-1", "client-1-1"]


def test_whether_the_judged_model_is_served(make_audit: MakeAudit) -> None:
    audit = make_audit()
    assert AuditTrail().is_served(audit) and AuditTrail(served=audit["unlearned"]).is_served(audit)
    assert not AuditTrail(served="c" * 64).is_served(audit)
