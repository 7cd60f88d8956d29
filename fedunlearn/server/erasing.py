"""Erasing everything else that remembers: what still descends from forgotten data, here and at the clients.

What stays: the served model and what descends only from it; retrained models that never saw the data; the ledger,
with a tombstone for each thing that went; audits and certificates, which hold figures over many samples and no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, RecordDict
from flwr.serverapp import Grid

from fedunlearn.errors import RequestError, RunFolderError
from fedunlearn.files import read_json, told_as_sentence
from fedunlearn.server import ledger_chain as chain
from fedunlearn.server.branches import MAIN
from fedunlearn.server.heads import share_head
from fedunlearn.server.ledger_tables import RequestRow
from fedunlearn.server.lineage import Lineage, lineage
from fedunlearn.server.session import Session
from fedunlearn.server.tombstones import BEGUN, FINISHED, Tombstones, tombstones
from fedunlearn.strategies.content import CONFIG
from fedunlearn.strategies.exchange import exchange
from fedunlearn.strategies.roster import Roster, call_roll

ERASE = "query.erase"

REPORT = ("report.html", "comparison.json", "comparison.csv", "comparison.md")
"""What a report writes into the run folder, beside its figures."""


@dataclass(frozen=True)
class Removed:
    """One thing that goes: its digest or its name in the run folder, what it is, and its bytes."""

    name: str
    what: str
    bytes: int


@dataclass(frozen=True)
class Erasure:
    """What an erasure takes away, or would.

    Attributes:
        request: its id.
        dry_run: nothing was touched.
        models: states in the server's store that still descend from the request's data, by digest.
        files: files of the run folder that show them.
        clients: client -> how many "models" and "files" it erases.
        absent: why clients could not be asked; they are asked when the command is given again.
        served: digest of the model that stays.
        finished: everything is gone.
        notes: what to know before, or after.
    """

    request: str
    dry_run: bool
    models: tuple[Removed, ...]
    files: tuple[Removed, ...]
    clients: Mapping[str, Mapping[str, int]]
    absent: tuple[str, ...]
    served: str
    finished: bool
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def bytes(self) -> int:
        """Bytes on the server's side."""
        return sum(one.bytes for one in (*self.models, *self.files))


def erase(grid: Grid, session: Session, id: str, dry_run: bool = True) -> Erasure:
    """Remove what still descends from the data of a request; a removal that was cut off is carried through.

    Args:
        dry_run: only say what would go.

    Raises:
        RequestError: the request is not done, or the served model itself descends from its data.
    """
    ledger, folder = session.ledger, session.folder
    row = ledger.request(id)
    entries = ledger.entries()
    line, gone = lineage(entries), tombstones(entries)
    served = _check(session, row, line)
    models, files = _models(session, line, gone, id), _files(session, line, id)
    roster = call_roll(grid, session.settings.timeout)
    if dry_run:
        clients, absent = _ask_clients(grid, session, roster, line, id, dry_run=True)
        there = bool(models or files or any(sum(counts.values()) for counts in clients.values()))
        notes = _notes(session, id)
        return Erasure(id, True, models, files, clients, absent, served, not there and id in gone.finished, notes)
    if models or files or id not in gone.finished:
        detail = {
            "request": id,
            "stage": BEGUN,
            "models": [{"digest": one.name, "what": one.what} for one in models],
            "files": [{"name": one.name, "what": one.what} for one in files],
        }
        # Before anything goes: whoever finds it gone, after a crash too, finds out why.
        ledger.append(chain.TOMBSTONE, detail)
    for one in models:
        session.models.remove(one.name)
    for one in files:
        with told_as_sentence(folder.path / one.name, "deleted"):
            (folder.path / one.name).unlink(missing_ok=True)
    clients, absent = _ask_clients(grid, session, roster, line, id, dry_run=False)
    changed = any(sum(counts.values()) for counts in clients.values())
    if not absent and (changed or id in tombstones(ledger.entries(chain.TOMBSTONE)).open or id not in gone.finished):
        ledger.append(chain.TOMBSTONE, {"request": id, "stage": FINISHED, "clients": clients})
    share_head(grid, session, roster)
    return Erasure(id, False, models, files, clients, absent, served, not absent, ())


def _check(session: Session, row: RequestRow, line: Lineage) -> str:
    """The digest of the served model, once it is sure that it may stay."""
    if row.state != "done":
        raise RequestError(
            f"request {row.id} is {row.state}: what remembers its data can be erased once it is done; run "
            f"`fedunlearn unlearn RUN --request {row.id}` first."
        )
    main = session.ledger.branch(MAIN)
    if main is None or line.descends(main.head, row.id):
        raise RequestError(
            f"the served model itself still descends from the data of request {row.id}, so that nothing can be erased "
            f"but with it; serve the request by another method first."
        )
    return main.head


def _models(session: Session, line: Lineage, gone: Tombstones, id: str) -> tuple[Removed, ...]:
    """What is in the store and descends from the request's data, or has no origin that the ledger knows."""
    found = []
    for digest in session.models.digests():
        state = line.states.get(digest)
        if line.descends(digest, id) or digest in gone.models:
            what = "no entry tells of it (a job that was cut off left it)" if state is None else state.what
            found.append(Removed(digest, what, session.models.path(digest).stat().st_size))
    return tuple(found)


def _files(session: Session, line: Lineage, id: str) -> tuple[Removed, ...]:
    """Reports, comparisons and cached figures that show the request's models."""
    folder = session.folder
    found: dict[Path, str] = {}
    for path in sorted(folder.audit.glob("comparison-*.json")):
        if _shows(path, line, id):
            found[path] = "comparison"
    for path in sorted(folder.audit.glob("figures-*.json")):
        if _shows(path, line, id):
            found[path] = "figures of models"
    # Folders in which a shadow was being trained when its process was killed; the next audit makes it again.
    found |= {path: "half of a shadow" for path in sorted(folder.audit.glob("shadow-*/**/*")) if path.is_file()}
    found |= {path: "trained to find memorised samples" for path in sorted(folder.halves.rglob("*")) if path.is_file()}
    report = folder.path / "comparison.json"
    if not report.is_file() or _shows(report, line, id):
        for path in [*(folder.path / name for name in REPORT), *sorted(folder.figures.glob("*"))]:
            if path.is_file():
                found[path] = "report"
    return tuple(
        Removed(path.relative_to(folder.path).as_posix(), what, path.stat().st_size) for path, what in found.items()
    )


def _shows(path: Path, line: Lineage, id: str) -> bool:
    """Whether a document is of this request, or names a model that descends from its data. A damaged one does."""
    try:
        document = read_json(path)
        requests = str((document.get("request") or {}).get("id", "")).split("+")
        digests = [str(model.get("digest")) for model in (document.get("models") or {}).values()]
        digests += list(document.get("figures") or {}) if path.name.startswith("figures-") else []
    except (RunFolderError, AttributeError):
        return True
    return id in requests or any(line.descends(digest, id) for digest in digests if digest in line.states)


def _ask_clients(
    grid: Grid, session: Session, roster: Roster, line: Lineage, id: str, dry_run: bool
) -> tuple[dict[str, dict[str, int]], tuple[str, ...]]:
    """Client -> what it erases, and why others could not be asked."""
    done = [row.id for row in session.ledger.requests("done")]
    erased = {id, *tombstones(session.ledger.entries(chain.TOMBSTONE)).finished} & set(done)
    held = [digest for digest, state in line.states.items() if state.sent_by is None]
    keep = [digest for digest in held if not any(line.descends(digest, one) for one in erased)]
    config: dict[str, Any] = {"keep": keep, "served": _jobs_with(session, id), "dry-run": dry_run}
    content = RecordDict({CONFIG: ConfigRecord(config)})
    outcome = exchange(grid, roster, ERASE, dict.fromkeys(roster.members, content), session.settings.timeout)
    counts = {
        str(answer.client): {name: int(answer.metrics[name]) for name in ("models", "files")}  # type: ignore[arg-type]
        for answer in outcome.answers
    }
    return counts, (*roster.absent, *(sentence for _, sentence in outcome.dropped))


def _jobs_with(session: Session, id: str) -> list[str]:
    """The jobs that the request was part of, each as its requests joined by "+"."""
    jobs = {str(branch.request_id) for branch in session.ledger.branches() if branch.request_id}
    return sorted({id, *(job for job in jobs if id in job.split("+"))})


def _notes(session: Session, id: str) -> tuple[str, ...]:
    notes = []
    certified: Sequence[Any] = session.ledger.events("certificate-issued", id)
    if not certified:
        notes.append(
            f"no certificate was issued for {id}: once the models it is compared with are gone, it can be audited no "
            f"more; see `fedunlearn audit` and `fedunlearn certificate issue`."
        )
    if session.settings.init is not None:
        notes.append(
            f"model {session.settings.init[:12]}, which the run started from, stays: no ledger tells what it knew."
        )
    notes.append("copies that left this run folder (backups, exports) are not reached.")
    return tuple(notes)
