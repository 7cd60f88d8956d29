from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fedunlearn.clients.inbox import Inbox
from fedunlearn.errors import RequestError, RunFolderError
from fedunlearn.federation import Federation
from fedunlearn.key_files import read_key_file
from fedunlearn.server.certificate import ISSUED
from fedunlearn.server.certificate_check import check_bundle
from fedunlearn.server.evidence import CERTIFICATE, EVIDENCE, MANIFEST


def test_a_certificate_says_what_was_asked_and_done(audited: Federation) -> None:
    issued = audited.certify()
    whole = json.loads((issued.bundle / CERTIFICATE).read_text())
    certificate = whole["certificate"]
    ledger = audited._session().ledger
    [asked] = certificate["asked"]
    row = ledger.request("client-0-1")
    assert (asked["request"], asked["scope"], asked["clients"], asked["classes"]) == ("client-0-1", "classes", [0], [3])
    assert (asked["samples"], asked["commitments"], asked["signatures"]) == (row.count, [row.commitment], "hold")
    done, main = certificate["done"], ledger.branch("main")
    [branch] = [one for one in ledger.branches("client-0-1") if one.kind == "unlearned"]
    assert (done["method"], done["rounds"], done["participants"]) == ("fine-tune", 1, [0, 1, 2])
    assert main is not None and done["unlearned"] == main.head == branch.head and done["original"] != main.head
    assert done["models"] == [main.head] and done["seeds"] == [str(ledger.rounds(branch.name)[0].seed)]
    assert certificate["served"]["is_unlearned"] and certificate["rests_on"] == "band"
    assert certificate["audit"]["band"]["size"] == 0 and certificate["verdict"] == "inconclusive" == issued.verdict
    assert {one["metric"] for one in certificate["metrics"]} >= {"test_accuracy"}
    assert any("not erased" in sentence for sentence in certificate["not_covered"])
    assert whole["signature"]["public_key"] == read_key_file(audited.folder / "server-key.pem").public_key
    assert set(certificate["evidence"]) == set(EVIDENCE)
    [event] = ledger.events(ISSUED, "client-0-1")
    assert event.detail["name"] == issued.bundle.name and event.detail["verdict"] == "inconclusive"
    found = check_bundle(issued.bundle)
    assert found.problems == () and (found.requests, found.verdict) == ("client-0-1", "inconclusive")
    assert audited.verify_ledger().holds


def test_the_bundle_holds_no_personal_data(audited: Federation) -> None:
    bundle = audited.certify().bundle
    assert {path.name for path in bundle.iterdir()} == {CERTIFICATE, MANIFEST, *EVIDENCE}
    [request] = Inbox(audited.folder / "clients" / "0").all()
    texts = {path.name: path.read_text() for path in bundle.iterdir()}
    positions = re.compile(r",\s*".join(map(str, request.positions[:3])))
    for name, text in texts.items():
        assert request.salt not in text, name
        assert not positions.search(text), name
        assert "PRIVATE KEY" not in text, name
        assert str(audited.folder) not in text, name


def test_a_second_certificate_is_another_bundle(audited: Federation) -> None:
    first, second = audited.certify(), audited.certify()
    assert first.bundle != second.bundle and first.bundle.parent == audited.folder / "certificates"
    assert check_bundle(first.bundle).holds and check_bundle(second.bundle).holds


def test_a_bundle_goes_where_it_is_wanted_and_nowhere_else(audited: Federation, tmp_path: Path) -> None:
    assert audited.certify("client-0-1", tmp_path / "deep" / "bundle").bundle == tmp_path / "deep" / "bundle"
    with pytest.raises(RunFolderError, match="is there already"):
        audited.certify("client-0-1", tmp_path / "deep" / "bundle")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["bundle"]


def test_what_was_not_audited_is_not_certified(federation: Federation) -> None:
    federation.request_deletion(client=0, classes=[1])
    with pytest.raises(RequestError, match="has not been audited: run `fedunlearn audit"):
        federation.certify("client-0-1")


def test_an_audit_that_was_changed_is_not_certified(audited: Federation) -> None:
    path = audited.folder / "audit" / "audit-client-0-1.json"
    path.write_text(path.read_text().replace('"inconclusive"', '"pass"'))
    with pytest.raises(RunFolderError, match="nothing is certified on a ledger that does not hold"):
        audited.certify()
    assert not (audited.folder / "certificates").exists()


def test_a_certificate_follows_a_change_of_keys(audited: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_key_file(audited.folder / "server-key.pem").public_key
    before = audited.certify().bundle
    second = audited.rotate_key(b"open sesame")
    monkeypatch.setenv("FEDUNLEARN_KEY_PASSWORD", "open sesame")
    after = audited.certify().bundle
    for bundle, signer in ((before, first), (after, second)):
        found = check_bundle(bundle, key=first)
        assert found.problems == () and found.public_key == signer and found.first_key == first
    assert check_bundle(after, key=second).holds
    assert [p.kind for p in check_bundle(before, key=second).problems] == ["key"]  # from before that key


def test_a_certificate_after_erasing_says_so(audited: Federation) -> None:
    audited.erase("client-0-1", dry_run=False)
    bundle = audited.certify().bundle
    certificate = json.loads((bundle / CERTIFICATE).read_text())["certificate"]
    assert certificate["erased"] == {"client-0-1": True}
    assert not any("not erased" in sentence for sentence in certificate["not_covered"])
    assert check_bundle(bundle).problems == ()
