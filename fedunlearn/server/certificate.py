"""Issuing a certificate: the signed verdict on an unlearning, in a folder with everything that it rests on."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedunlearn import __version__
from fedunlearn.audit.verdict_document import deviations
from fedunlearn.canonical import canonical_bytes, tagged_bytes
from fedunlearn.errors import RequestError, RunFolderError
from fedunlearn.files import atomic_write_bytes, make_folder, read_json, told_as_sentence
from fedunlearn.server.audit_record import audit_path
from fedunlearn.server.certificate_facts import facts
from fedunlearn.server.certificate_schema import FORMAT
from fedunlearn.server.evidence import CERTIFICATE, MANIFEST, digest_of, evidence_files, manifest_of
from fedunlearn.server.figure_store import file_name
from fedunlearn.server.ledger_database import now
from fedunlearn.server.session import Session
from fedunlearn.server.verification import HEADS_FILE, client_heads, verify_run

ISSUED = "certificate-issued"
"""The event of a certificate: its detail has the file's "name" and "sha256"."""


@dataclass(frozen=True)
class Issued:
    """A certificate that was issued.

    Attributes:
        bundle: its folder.
        requests: ids, joined by "+".
        verdict: "pass", "fail" or "inconclusive". why: in a sentence.
        public_key: who signed it.
    """

    bundle: Path
    requests: str
    verdict: str
    why: str
    public_key: str


def issue(session: Session, ids: Sequence[str], out: Path | None = None, head_files: Sequence[Path] = ()) -> Issued:
    """Certify what the last audit of these requests found, whatever it was, and write the evidence bundle.

    Args:
        out: folder of the bundle, which must not be there; None: one in the run's `certificates/`.
        head_files: `heads.json` of clients whose folders are not in the run's.

    Raises:
        RequestError: the requests are not done or have not been audited.
        RunFolderError: the ledger does not hold, the audit was changed, the key cannot be used, or the folder is there.
    """
    folder = session.folder
    path = audit_path(session, ids)
    if not path.is_file():
        requests = "+".join(sorted(ids))
        raise RequestError(f"request {requests} has not been audited: run `fedunlearn audit RUN --request {requests}`.")
    key = session.run_key()
    verification = verify_run(folder, head_files)
    if not verification.holds:
        raise RunFolderError(
            f"nothing is certified on a ledger that does not hold: {verification.problems[0].sentence} See "
            f"`fedunlearn ledger verify` for all of it."
        )
    with told_as_sentence(path, "read"):
        audit_bytes = path.read_bytes()
    audit = read_json(path)
    if wrong := deviations(audit):
        raise RunFolderError(f"{path} states what does not follow from what was measured: {wrong[0]} Audit again.")
    entries = session.ledger.entries()
    heads, _ = client_heads([*sorted(folder.clients.glob(f"*/{HEADS_FILE}")), *head_files])
    files = evidence_files(audit_bytes, entries, heads)
    certificate: dict[str, Any] = {
        "format": FORMAT,
        "id": uuid.uuid4().hex,
        "issued": now(),
        "issuer": {"program": f"fedunlearn {__version__}", "run": session.ledger.run, "public_key": key.public_key},
        **facts(entries, audit),
        "ledger": {"entries": entries[-1].number, "head": entries[-1].hash},
        "evidence": {name: digest_of(data) for name, data in sorted(files.items())},
    }
    signature = {
        "algorithm": "Ed25519",
        "public_key": key.public_key,
        "value": key.sign(tagged_bytes(FORMAT, certificate)),
    }
    files[CERTIFICATE] = canonical_bytes({"certificate": certificate, "signature": signature}) + b"\n"
    files[MANIFEST] = manifest_of(files)
    name = f"{file_name(audit['request'].split('+'))}-{entries[-1].number}"
    bundle = out if out is not None else make_folder(folder.certificates) / name
    _write(bundle, files)
    detail = {
        "name": bundle.name,
        "sha256": digest_of(files[CERTIFICATE]),
        "verdict": audit["verdict"],
        "unlearned": audit["unlearned"],
    }
    for id in audit["request"].split("+"):
        session.ledger.append_event(ISSUED, detail, id)
    return Issued(bundle, audit["request"], audit["verdict"], audit["why"], key.public_key)


def _write(bundle: Path, files: dict[str, bytes]) -> None:
    """Write all files of a bundle, or none."""
    if bundle.exists():
        raise RunFolderError(f"{bundle} is there already: name another folder for the bundle, or leave it out.")
    make_folder(bundle.parent)
    part = bundle.with_name(f".{bundle.name}.{uuid.uuid4().hex}.part")
    try:
        make_folder(part)
        for name, data in files.items():
            atomic_write_bytes(part / name, data)
        with told_as_sentence(bundle, "written"):
            os.rename(part, bundle)
    finally:
        shutil.rmtree(part, ignore_errors=True)
