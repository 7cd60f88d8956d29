"""What a report takes from a run that was audited and certified."""

from __future__ import annotations

import shutil
from pathlib import Path

from fedunlearn.federation import Federation
from fedunlearn.reporting import audit_trail
from fedunlearn.reports.audit_trail import AuditTrail
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.session import Session


def trail_of(federation: Federation) -> AuditTrail:
    return audit_trail(Session(RunFolder.open(federation.folder)))


def test_a_run_without_an_audit_has_none(federation: Federation) -> None:
    trail = trail_of(federation)
    assert not trail.audits and not trail.certificates and trail.served


def test_audit_and_certificate_come_onto_the_page(audited: Federation) -> None:
    issued = audited.certify()
    trail = trail_of(audited)
    (audit,) = trail.audits
    certified = trail.certificate_of(audit)
    assert audit["request"] == "client-0-1" and certified is not None
    assert certified.bundle == issued.bundle.name and certified.certificate is not None
    html = audited.report().read_text()
    assert "What the audit says" in html and "What this does not mean." in html
    assert str(certified.certificate["id"]) in html
    assert (audited.folder / "figures" / "verdict.png").is_file()


def test_what_the_ledger_did_not_record_is_not_shown(audited: Federation, tmp_path: Path) -> None:
    issued = audited.certify()
    (path,) = audited.folder.glob("audit/audit-*.json")
    path.write_text(path.read_text().replace('"inconclusive"', '"pass"') + " ")
    shutil.move(issued.bundle, tmp_path / "elsewhere")
    trail = trail_of(audited)
    assert not trail.audits
    assert [one.certificate for one in trail.certificates.values()] == [None]
    assert "What the audit says" not in audited.report().read_text()
