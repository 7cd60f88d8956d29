from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedunlearn.errors import RequestError
from fedunlearn.federation import Federation
from fedunlearn.server.certificate_facts import differences, facts, portable, recorded_audits, signatures
from fedunlearn.server.ledger import Ledger
from fedunlearn.server.ledger_replay import replay


def audit_of(federation: Federation) -> dict:
    return json.loads((federation.folder / "audit" / "audit-client-0-1.json").read_text())


def test_the_same_evidence_gives_the_same_facts(audited: Federation) -> None:
    entries = audited._session().ledger.entries()
    first = facts(entries, audit_of(audited))
    assert first == facts(entries, json.loads(json.dumps(audit_of(audited))))
    assert json.loads(json.dumps(first)) == first


@pytest.mark.parametrize("change", [{"unlearned": "0" * 64}, {"original": "0" * 64}, {"request": "client-1-1"}])
def test_an_audit_of_other_models_is_refused(audited: Federation, change: dict) -> None:
    with pytest.raises(RequestError, match="audit is of other models"):
        facts(audited._session().ledger.entries(), audit_of(audited) | change)


def test_an_audit_that_was_not_recorded_is_refused(audited: Federation) -> None:
    entries = [entry for entry in audited._session().ledger.entries() if '"audited"' not in entry.body]
    assert recorded_audits(entries) == {}
    with pytest.raises(RequestError, match="tells of no audit"):
        facts(entries, audit_of(audited))


def test_the_original_under_a_new_name_is_no_unlearned_model(audited: Federation) -> None:
    audit = audit_of(audited)
    with pytest.raises(RequestError, match="that made model"):
        facts(audited._session().ledger.entries(), audit | {"unlearned": audit["original"]})


def test_who_asked_has_signed(audited: Federation) -> None:
    tables = replay(audited._session().ledger.entries())
    assert signatures(tables, "client-0-1") == "hold"
    [arrived] = [row for row in tables.table("events") if row["kind"] == "request-arrived"]
    for change in ({"count": 1}, {"classes": [4]}, {"signature": "x"}, {"client": 1}):
        forged = replay(audited._session().ledger.entries())
        [row] = [row for row in forged.table("events") if row["kind"] == "request-arrived"]
        row["detail"] = {**arrived["detail"], "parts": [{**arrived["detail"]["parts"][0], **change}]}
        assert signatures(forged, "client-0-1") == "fail", change


def test_an_earlier_version_recorded_no_signatures(filled: Ledger) -> None:
    assert signatures(replay(filled.entries()), "r1") == "not recorded"


def test_large_numbers_are_text() -> None:
    assert portable({"a": [2**53, 2**53 + 1, -(2**60), True, 0.5]}) == {
        "a": [2**53, str(2**53 + 1), str(-(2**60)), True, 0.5]
    }


@pytest.mark.parametrize(
    ("stated", "found", "where"),
    [
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, "a.b[1] is stated as 2, and the evidence says 3."),
        ({"a": 1}, {}, "a is stated as 1, and the evidence says None."),
        ({"a": [1]}, {"a": [1, 2]}, "a is stated as [1], and the evidence says [1, 2]."),
        ({"a": True}, {"a": 1}, "a is stated as True, and the evidence says 1."),
    ],
)
def test_differences_are_named(stated: object, found: object, where: str) -> None:
    assert differences(stated, found) == [where]
    assert differences(found, found) == []


def test_the_folder_of_a_run_is_nowhere_in_the_facts(audited: Federation, tmp_path: Path) -> None:
    assert str(tmp_path) not in json.dumps(facts(audited._session().ledger.entries(), audit_of(audited)))
