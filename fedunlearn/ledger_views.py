"""What the command line shows of a ledger: its entries, a copy of it, the lineage of its models."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedunlearn.errors import RequestError, RunFolderError
from fedunlearn.files import atomic_write_bytes, json_bytes, make_folder, read_json
from fedunlearn.server.evidence import CERTIFICATE, HEADS, KEYS, LEDGER, heads_document, keys_document, ledger_lines
from fedunlearn.server.ledger_chain import Entry
from fedunlearn.server.lineage import lineage
from fedunlearn.server.model_store import ModelStore
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.tombstones import tombstones
from fedunlearn.server.verification import HEADS_FILE, client_heads, read_ledger

LONGEST_TEXT = 100
"""More of an entry is left to `--json`."""
FIRST = ("kind", "request_id", "id", "scope", "state", "branch", "name", "number", "doing", "why", "verdict")
"""What of an entry tells most, and comes first."""


@dataclass(frozen=True)
class ShownEntry:
    """One entry as a row of a table, and in full."""

    row: Mapping[str, Any]
    document: Mapping[str, Any]


def shown_entries(run: Path, kind: str | None = None, last: int | None = None) -> list[ShownEntry]:
    """The entries of a run's ledger (of a kind; the last so many). Raises RunFolderError."""
    entries, _ = read_ledger(RunFolder.open(run))
    chosen = [entry for entry in entries if kind in (None, entry.kind)]
    return [_shown(entry) for entry in (chosen if last is None else chosen[len(chosen) - min(last, len(chosen)) :])]


def export_ledger(run: Path, out: Path, head_files: Sequence[Path] = ()) -> list[Path]:
    """Write entries, heads and public keys into `out`; return the files.

    Raises:
        RunFolderError: there is no ledger, or `out` holds something already.
    """
    folder = RunFolder.open(run)
    entries, _ = read_ledger(folder)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunFolderError(f"{out} is not empty: name a new folder for the copy of the ledger.")
    heads, problems = client_heads([*sorted(folder.clients.glob(f"*/{HEADS_FILE}")), *head_files])
    if problems:
        raise RunFolderError(f"{problems[0].sentence} See `fedunlearn ledger verify`.")
    make_folder(out)
    files = {
        out / LEDGER: ledger_lines(entries),
        out / HEADS: json_bytes(heads_document(heads)),
        out / KEYS: json_bytes(keys_document(entries)),
    }
    for path, data in files.items():
        atomic_write_bytes(path, data)
    return list(files)


def lineage_view(run: Path, request: str | None = None) -> dict[str, Any]:
    """The models of a run and what each descends from; for each request the earliest model without its data.

    Raises:
        RequestError: there is no such request.
    """
    folder = RunFolder.open(run)
    entries, _ = read_ledger(folder)
    line, gone, store = lineage(entries), tombstones(entries), ModelStore(folder.models)
    if request is not None and request not in line.arrivals:
        known = ", ".join(line.arrivals) or "none"
        raise RequestError(f"the ledger tells of no request {request!r}; recorded are: {known}.")
    requests = [request] if request is not None else list(line.arrivals)
    models = []
    for state in line.states.values():
        where = "stored" if store.has(state.digest) else "erased" if state.digest in gone.models else "missing"
        models.append(
            {
                "digest": state.digest,
                "what": state.what,
                "clients": "all" if state.everybody is not None else sorted(state.clients),
                "descends_from": [id for id in requests if line.descends(state.digest, id)],
                "where": where,
            }
        )
    clean = {id: line.earliest_clean(id) for id in requests}
    return {"models": models, "earliest_clean": {id: one.digest if one else None for id, one in clean.items()}}


def read_certificate(path: Path) -> dict[str, Any]:
    """The file `certificate.json`, or the one in a bundle; whether it holds is not looked at.

    Raises:
        RunFolderError: there is none, or it is no certificate.
    """
    whole = read_json(path / CERTIFICATE if path.is_dir() else path)
    if not isinstance(whole, dict) or not isinstance(whole.get("certificate"), dict):
        raise RunFolderError(f"{path} is no certificate: expected {CERTIFICATE} of an evidence bundle.")
    return whole


def _shown(entry: Entry) -> ShownEntry:
    document = {**json.loads(entry.line()), "body": entry.content()}
    text = _in_short(document["body"])
    text = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"
    row = {"number": entry.number, "time": entry.time[:19], "kind": entry.kind, "what": text, "hash": entry.hash}
    return ShownEntry(row, document)


def _in_short(body: Mapping[str, Any]) -> str:
    """An entry's content for a person: what it is about, then other words and numbers, then what has parts."""
    detail = body.get("detail")
    content = {**(detail if isinstance(detail, dict) else {}), **body}
    content.pop("detail", None)
    known = {name: value for name, value in content.items() if value not in (None, "", [], {})}

    def place(name: str) -> tuple[bool, int, str]:
        return isinstance(known[name], list | dict), FIRST.index(name) if name in FIRST else len(FIRST), name

    def shown(value: Any) -> str:
        # Twelve digits of a SHA-256, as everywhere on the command line.
        return value[:12] if re.fullmatch("[0-9a-f]{64}", str(value)) else str(value)

    return ", ".join(f"{name.replace('_', ' ')} {shown(known[name])}" for name in sorted(known, key=place))
