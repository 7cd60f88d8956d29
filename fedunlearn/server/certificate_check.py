"""Verifying a certificate offline, with its evidence bundle alone; better, with a key and heads from elsewhere."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedunlearn.announcement import signature_holds
from fedunlearn.audit.verdict_document import deviations, find_again
from fedunlearn.canonical import tagged_bytes
from fedunlearn.errors import DataError, RequestError, RunFolderError
from fedunlearn.server.certificate_facts import differences, facts, recorded_audits
from fedunlearn.server.certificate_schema import FORMAT, SCHEMA
from fedunlearn.server.evidence import (
    AUDIT,
    CERTIFICATE,
    EVIDENCE,
    KEYS,
    LEDGER,
    Bundle,
    digest_of,
    keys_document,
    read_bundle,
)
from fedunlearn.server.ledger_chain import run_id
from fedunlearn.server.ledger_verify import Keys, Problem, server_keys, verify_chain, verify_heads
from fedunlearn.server.verification import client_heads

MOST_DIFFERENCES = 8
"""More than so many are not named one by one."""


@dataclass(frozen=True)
class Checked:
    """What came of checking a bundle.

    Attributes:
        problems: everything that is wrong; none: the certificate holds.
        requests: ids, joined by "+". verdict, why: as the certificate states them.
        public_key: who signed. first_key: the run's first key, which all others follow from.
        entries: of the ledger. heads: of clients, that were compared with it.
        notes: what could not be checked, and how to.
    """

    problems: tuple[Problem, ...]
    requests: str
    verdict: str | None
    why: str | None
    public_key: str | None
    first_key: str | None
    entries: int
    heads: int
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def check_bundle(folder: Path, key: str | None = None, head_files: Sequence[Path] = ()) -> Checked:
    """Check signature, chain, digests, form, and the verdict out of the evidence.

    Args:
        key: the run's public key (base64), from elsewhere: the first one, or any that came after.
        head_files: `heads.json` that clients themselves handed over.

    Raises:
        RunFolderError: the folder is no bundle.
    """
    bundle = read_bundle(folder)
    problems = list(bundle.problems)
    own_heads, unread = client_heads(head_files)
    heads = {**bundle.heads, **{f"{who} (its own copy)": kept for who, kept in own_heads.items()}}
    problems += [*unread, *verify_chain(bundle.entries)] if LEDGER in bundle.files else unread
    keys = server_keys(bundle.entries)
    problems += [*keys.problems, *verify_heads(bundle.entries, heads, keys)]
    whole = bundle.certificate or {}
    certificate, signature = whole.get("certificate"), whole.get("signature")
    if isinstance(certificate, Mapping) and isinstance(signature, Mapping):
        if wrong := _wrong_form(whole):
            problems += wrong
        else:
            problems += _wrong_signature(certificate, signature, keys)
            problems += _wrong_evidence(bundle, certificate)
            problems += _wrong_facts(bundle, certificate)
    elif CERTIFICATE in bundle.files:
        certificate = {}
        problems.append(Problem("schema", f"{CERTIFICATE} holds no certificate with a signature."))
    problems += _wrong_audit(bundle)
    problems += _wrong_key(key, keys)
    count = sum(len(kept) for kept in heads.values())
    certificate = certificate if isinstance(certificate, Mapping) else {}
    asked = certificate.get("asked")
    requests = [str(one.get("request")) for one in asked if isinstance(one, Mapping)] if isinstance(asked, list) else []
    return Checked(
        problems=tuple(dict.fromkeys(problems)),
        requests="+".join(requests),
        verdict=certificate.get("verdict"),
        why=certificate.get("why"),
        public_key=signature.get("public_key") if isinstance(signature, Mapping) else None,
        first_key=keys.in_force[0][1] if keys.in_force else None,
        entries=len(bundle.entries),
        heads=count,
        notes=tuple(_notes(key, keys, own_heads, count)),
    )


def _wrong_form(whole: Mapping[str, Any]) -> list[Problem]:
    import jsonschema

    validator = jsonschema.Draft202012Validator(SCHEMA)
    found = sorted(validator.iter_errors(whole), key=lambda error: [str(part) for part in error.absolute_path])
    return [
        Problem("schema", f"{CERTIFICATE}: {'.'.join(map(str, error.absolute_path)) or 'the file'}: {error.message}.")
        for error in found[:MOST_DIFFERENCES]
    ]


def _wrong_signature(certificate: Mapping[str, Any], signature: Mapping[str, Any], keys: Keys) -> list[Problem]:
    problems = []
    signer = signature["public_key"]
    if not signature_holds(signer, signature["value"], tagged_bytes(FORMAT, certificate)):
        problems.append(Problem("signature", "the certificate's signature fails: it or what it says was changed."))
    if signer != certificate["issuer"]["public_key"]:
        problems.append(Problem("key", "the certificate is signed with another key than the issuer's that it names."))
    if signer != keys.at(certificate["ledger"]["entries"]):
        problems.append(
            Problem("key", f"the certificate is signed with a key that the ledger does not name ({signer}).")
        )
    return problems


def _wrong_evidence(bundle: Bundle, certificate: Mapping[str, Any]) -> list[Problem]:
    problems = []
    stated = certificate["evidence"]
    for name in sorted({*EVIDENCE, *stated}):
        if name not in stated:
            problems.append(Problem("certificate", f"the certificate states no digest of {name}."))
        elif name in bundle.files and digest_of(bundle.files[name]) != stated[name]:
            problems.append(Problem("changed-file", f"{name} is not the file whose digest the certificate states."))
    entries, ledger = bundle.entries, certificate["ledger"]
    if entries and entries[-1].number < ledger["entries"]:
        sentence = (
            f"the certificate was issued at entry {ledger['entries']}, and the ledger ends at {entries[-1].number}."
        )
        problems.append(Problem("truncated", sentence))
    elif entries and (entries[-1].number, entries[-1].hash) != (ledger["entries"], ledger["head"]):
        problems.append(Problem("rewritten", "the ledger's last entry is not the one that the certificate names."))
    if bundle.keys is not None:
        wrong = differences(bundle.keys, keys_document(entries))
        problems += [Problem("key", f"{KEYS}: {one}") for one in wrong[:MOST_DIFFERENCES]]
    if entries and certificate["issuer"]["run"] != run_id(entries):
        problems.append(Problem("certificate", "the certificate is of another run than the ledger."))
    return problems


def _wrong_facts(bundle: Bundle, certificate: Mapping[str, Any]) -> list[Problem]:
    """Whether the certificate says what the ledger and the audit say."""
    if bundle.audit is None or not bundle.entries:
        return []
    try:
        found = facts(bundle.entries, bundle.audit)
    except RequestError as error:
        return [Problem("certificate", str(error))]
    except (KeyError, TypeError, ValueError) as error:
        return [Problem("certificate", f"what was certified cannot be found again in the evidence ({error!r}).")]
    wrong = differences({name: certificate[name] for name in found}, found)
    problems = [Problem("certificate", one) for one in wrong[:MOST_DIFFERENCES]]
    if len(wrong) > MOST_DIFFERENCES:
        problems.append(Problem("certificate", f"{len(wrong) - MOST_DIFFERENCES} more things are stated otherwise."))
    for one in found["asked"]:
        if one["signatures"] == "fail":
            sentence = f"request {one['request']} is not signed with the keys of the clients that asked."
            problems.append(Problem("request", sentence))
    return problems


def _wrong_audit(bundle: Bundle) -> list[Problem]:
    """Whether the audit is the one that was recorded, and its verdict follows from what was measured."""
    if bundle.audit is None:
        return []
    problems = []
    recorded = {one["sha256"] for one in recorded_audits(bundle.entries).values()} if bundle.entries else set()
    if digest_of(bundle.files[AUDIT]) not in recorded:
        problems.append(Problem("audit", f"{AUDIT} is not an audit that the ledger tells of."))
    try:
        problems += [Problem("verdict", f"{AUDIT}: {one}") for one in deviations(bundle.audit)[:MOST_DIFFERENCES]]
        again = find_again(bundle.audit).outcome
        certificate = (bundle.certificate or {}).get("certificate")
        stated = certificate.get("verdict") if isinstance(certificate, Mapping) else None
        if stated is not None and stated != again:
            sentence = f"the certificate says {stated!r}, and what was measured gives {again!r}."
            problems.append(Problem("verdict", sentence))
    except (DataError, KeyError, TypeError, AttributeError) as error:
        problems.append(Problem("verdict", f"no verdict can be found again in {AUDIT} ({error})."))
    return problems


def _wrong_key(key: str | None, keys: Keys) -> list[Problem]:
    if key is None or key in [known for _, known in keys.in_force]:
        return []
    return [Problem("key", f"the run has not the key that was given ({key}): the bundle is somebody else's.")]


def _notes(key: str | None, keys: Keys, own_heads: Mapping[str, Any], count: int) -> list[str]:
    notes = []
    if key is None and keys.in_force:
        notes.append(
            f"whose certificate this is, the bundle cannot say by itself: compare the run's first key, "
            f"{keys.in_force[0][1]}, with what the operator has published, or give it with --key."
        )
    if not own_heads:
        notes.append(
            "the heads in the bundle came from the operator: heads.json from a client itself, given with --heads, "
            "would also show a ledger that was made up as a whole."
        )
    if not count:
        notes.append("no client's head is in the bundle: a ledger that was cut or rewritten before could not be seen.")
    return notes


def read_key(text: str) -> str:
    """A public key as text, or in a file of that name: base64, or `keys.json` of a bundle.

    Raises:
        RunFolderError: it is neither.
    """
    path = Path(text)
    try:
        if path.is_file():
            content = path.read_text(encoding="utf-8").strip()
            text = str(json.loads(content)["server"][0]["public_key"]) if content.startswith("{") else content
        if len(base64.b64decode(text, validate=True)) == 32:
            return text
    except (OSError, KeyError, IndexError, TypeError, ValueError, binascii.Error) as error:
        raise RunFolderError(f"{text!r} is no public key ({error}): expected 44 characters of base64.") from error
    raise RunFolderError(f"{text!r} is no public key: expected 44 characters of base64, or a file with them.")
