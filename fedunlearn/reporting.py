"""What a run's report takes beside the comparison: the audits and certificates that the run folder holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from fedunlearn.errors import RunFolderError
from fedunlearn.files import told_as_sentence
from fedunlearn.reports.audit_trail import AuditDocument, AuditTrail, Certified, in_order
from fedunlearn.server.audit_record import AUDITED
from fedunlearn.server.branches import SERVED, served_digest
from fedunlearn.server.certificate import ISSUED
from fedunlearn.server.evidence import CERTIFICATE
from fedunlearn.server.session import Session


def audit_trail(session: Session) -> AuditTrail:
    """All audits and certificates that the ledger tells of, as they were recorded; nothing is changed.

    A file that is not the recorded one, byte for byte, is no audit and no certificate.

    Raises:
        RunFolderError: a file cannot be read.
    """
    audits: dict[str, AuditDocument] = {}
    for event in session.ledger.events(AUDITED):
        name, digest = str(event.detail["name"]), str(event.detail["sha256"])
        found = _recorded(session, "audit", name, digest)
        if found is None:
            audits.pop(name, None)
        else:
            audits[name] = found
    served = dict.fromkeys(str(event.detail["request"]) for event in session.ledger.events(SERVED))
    return AuditTrail(in_order(audits.values(), served), _certificates(session), served_digest(session))


def _certificates(session: Session) -> dict[str, Certified]:
    """Requests, joined by "+" -> the last certificate."""
    issued: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
    for event in session.ledger.events(ISSUED):
        _, requests = issued.setdefault(str(event.detail["sha256"]), (event.detail, []))
        requests.append(str(event.request_id))
    found = {}
    for digest, (detail, requests) in issued.items():
        name = str(detail["name"])
        whole = _recorded(session, "certificates", f"{name}/{CERTIFICATE}", digest)
        certificate = None if whole is None else whole.get("certificate")
        found["+".join(sorted(requests))] = Certified(certificate, name, str(detail["unlearned"]))
    return found


def _recorded(session: Session, room: str, name: str, digest: str) -> Mapping[str, Any] | None:
    """The file as the ledger recorded it; None where it is not there, or is another."""
    path = session.folder.path / room / name
    if not path.is_file():
        return None
    with told_as_sentence(path, "read"):
        data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        return None
    content = json.loads(data)
    if not isinstance(content, Mapping):
        raise RunFolderError(f"{path} holds no document: make it again.")
    return content
