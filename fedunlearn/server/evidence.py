"""The evidence bundle: a folder with all that a third party needs to check a certificate, and no personal data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fedunlearn.canonical import canonical_bytes
from fedunlearn.errors import ClientError, RunFolderError
from fedunlearn.files import json_bytes, told_as_sentence
from fedunlearn.ledger_head import SignedHead
from fedunlearn.server.ledger_chain import Entry
from fedunlearn.server.ledger_replay import replay
from fedunlearn.server.ledger_verify import Problem, server_keys

CERTIFICATE, AUDIT, LEDGER, HEADS, KEYS = "certificate.json", "audit.json", "ledger.jsonl", "heads.json", "keys.json"
MANIFEST: Final = "manifest.json"

EVIDENCE: Final = (AUDIT, LEDGER, HEADS, KEYS)
"""Files whose digests the certificate states."""


@dataclass(frozen=True)
class Bundle:
    """What was read of a bundle; a file that is missing or cannot be read is None or empty, and a problem says so.

    Attributes:
        files: name -> bytes.
        manifest: name -> the digest that the manifest states.
        entries: of the ledger. heads: who keeps which.
        certificate: the whole file. audit: the document. keys: as they are stated.
    """

    files: Mapping[str, bytes]
    manifest: Mapping[str, str]
    certificate: Mapping[str, Any] | None
    audit: Mapping[str, Any] | None
    entries: tuple[Entry, ...]
    heads: Mapping[str, Sequence[SignedHead]]
    keys: Mapping[str, Any] | None
    problems: tuple[Problem, ...]


def digest_of(data: bytes) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


def ledger_lines(entries: Iterable[Entry]) -> bytes:
    """The entries as JSON lines."""
    return "".join(f"{entry.line()}\n" for entry in entries).encode()


def heads_document(heads: Mapping[str, Sequence[SignedHead]]) -> dict[str, Any]:
    """Who keeps which heads, as the bundle has them."""
    return {"heads": {who: [head.document() for head in kept] for who, kept in sorted(heads.items())}}


def keys_document(entries: Sequence[Entry]) -> dict[str, Any]:
    """The public keys that the entries name: the run's, with the entry since which each counts, and the clients'."""
    clients = {str(row["client"]): row["public_key"] for row in replay(entries).table("client_keys")}
    server = [{"public_key": key, "since_entry": since} for since, key in server_keys(entries).in_force]
    return {"server": server, "clients": clients}


def evidence_files(
    audit: bytes, entries: Sequence[Entry], heads: Mapping[str, Sequence[SignedHead]]
) -> dict[str, bytes]:
    """The bundle's files but for certificate and manifest."""
    return {
        AUDIT: audit,
        LEDGER: ledger_lines(entries),
        HEADS: json_bytes(heads_document(heads)),
        KEYS: json_bytes(keys_document(entries)),
    }


def manifest_of(files: Mapping[str, bytes]) -> bytes:
    """The manifest: each file with its digest."""
    return json_bytes({"sha256": {name: digest_of(data) for name, data in sorted(files.items())}})


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle; whatever is wrong with its files is a problem, and reading goes on.

    Raises:
        RunFolderError: there is no such folder, or it holds no certificate and no manifest.
    """
    if not folder.is_dir() or not any((folder / name).is_file() for name in (CERTIFICATE, MANIFEST)):
        raise RunFolderError(f"{folder} is no evidence bundle: expected a folder with {CERTIFICATE} and {MANIFEST}.")
    files: dict[str, bytes] = {}
    for path in sorted(folder.iterdir()):
        with told_as_sentence(path, "read"):
            if path.is_file():
                files[path.name] = path.read_bytes()
    problems: list[Problem] = []
    manifest = _manifest(files, problems)
    entries = _entries(files.get(LEDGER, b""), problems)
    return Bundle(
        files=files,
        manifest=manifest,
        certificate=_object(files, CERTIFICATE, problems),
        audit=_object(files, AUDIT, problems),
        entries=tuple(entries),
        heads=_heads(_object(files, HEADS, problems), problems),
        keys=_object(files, KEYS, problems),
        problems=(*_wrong_files(files, manifest), *problems),
    )


def _manifest(files: Mapping[str, bytes], problems: list[Problem]) -> dict[str, str]:
    content = _object(files, MANIFEST, problems)
    digests = (content or {}).get("sha256")
    return {str(name): str(digest) for name, digest in digests.items()} if isinstance(digests, dict) else {}


def _wrong_files(files: Mapping[str, bytes], manifest: Mapping[str, str]) -> list[Problem]:
    problems = []
    for name in dict.fromkeys((CERTIFICATE, *EVIDENCE, MANIFEST, *manifest)):
        if name not in files:
            problems.append(Problem("missing-file", f"{name} is missing in the bundle."))
        elif name in manifest and digest_of(files[name]) != manifest[name]:
            problems.append(Problem("changed-file", f"{name} is not the file whose digest the manifest states."))
        elif name != MANIFEST and name not in manifest:
            problems.append(Problem("changed-file", f"{name} is not in the manifest."))
    extra = [
        name for name in files if name not in manifest and name != MANIFEST and name not in (CERTIFICATE, *EVIDENCE)
    ]
    return problems + [Problem("extra-file", f"{name} does not belong to the bundle.") for name in extra]


def _object(files: Mapping[str, bytes], name: str, problems: list[Problem]) -> dict[str, Any] | None:
    if name not in files:
        return None
    try:
        content = json.loads(files[name], object_pairs_hook=_each_name_once)
        canonical_bytes(content)
        if not isinstance(content, dict):
            raise ValueError("no object")
    except ValueError as error:
        problems.append(Problem("changed-file", f"{name} cannot be read as JSON ({error})."))
        return None
    return content


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; one that says a thing twice says different things to different readers."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a name comes twice")
    return content


def _entries(data: bytes, problems: list[Problem]) -> list[Entry]:
    entries = []
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            entries.append(Entry.of(json.loads(line, object_pairs_hook=_each_name_once)))
        except ValueError as error:
            problems.append(Problem("edited", f"line {number} of {LEDGER} is no entry ({error})."))
    return entries


def _heads(content: Mapping[str, Any] | None, problems: list[Problem]) -> dict[str, list[SignedHead]]:
    found: dict[str, list[SignedHead]] = {}
    try:
        for who, kept in ((content or {}).get("heads") or {}).items():
            found[str(who)] = [SignedHead.of(one) for one in kept]
    except (ClientError, TypeError, AttributeError) as error:
        problems.append(Problem("heads", f"{HEADS} cannot be read ({error})."))
    return found
