"""Is a run what its ledger says? The chain, the clients' heads, the tables, the models, the audits, what was erased."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from fedunlearn.errors import ClientError, CorruptModel, RunFolderError
from fedunlearn.files import read_json, told_as_sentence
from fedunlearn.key_files import KeyFileError, is_encrypted, read_key_file
from fedunlearn.ledger_head import SignedHead
from fedunlearn.server import ledger_chain as chain
from fedunlearn.server import ledger_schema as schema
from fedunlearn.server.audit_record import AUDITED
from fedunlearn.server.kept_updates import kept_digests
from fedunlearn.server.ledger_chain import Entry
from fedunlearn.server.ledger_database import LedgerDatabase
from fedunlearn.server.ledger_tables import PROJECTIONS, row_columns
from fedunlearn.server.ledger_verify import (
    Keys,
    Problem,
    server_keys,
    verify_chain,
    verify_heads,
    verify_tables,
)
from fedunlearn.server.model_store import ModelStore
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.run_key import password_for
from fedunlearn.server.tombstones import Tombstones, tombstones

HEADS_FILE = "heads.json"
"""In a client's folder: the heads that it keeps."""


@dataclass(frozen=True)
class Verification:
    """What came of it.

    Attributes:
        problems: everything that is wrong; none: the ledger holds.
        entries: how many there are. heads: how many heads of clients were compared. models: how many files were read.
        notes: what could not be checked, and why.
    """

    problems: tuple[Problem, ...]
    entries: int
    heads: int
    models: int
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify_run(folder: RunFolder, head_files: Sequence[Path] = (), with_models: bool = True) -> Verification:
    """Check a run; nothing is changed, not even what is wrong.

    Args:
        head_files: `heads.json` files of clients whose folders are not in the run's.
        with_models: also read every model file and compare its digest.

    Raises:
        RunFolderError: there is no ledger, or none of this format, or it cannot be read at all.
    """
    entries, stored = read_ledger(folder)
    heads, problems = client_heads([*sorted(folder.clients.glob(f"*/{HEADS_FILE}")), *head_files])
    keys, notes = server_keys(entries), list[str]()
    problems += [*verify_chain(entries), *keys.problems, *verify_heads(entries, heads, keys)]
    problems += verify_tables(entries, stored)
    gone = tombstones(entries)
    problems += [*_wrong_key_file(folder, keys, notes), *_wrong_audits(folder, entries)]
    models = 0
    if with_models:
        models, wrong = _wrong_models(folder, entries, gone)
        problems += wrong
    problems += _still_there(folder, gone)
    count = sum(len(kept) for kept in heads.values())
    if not count:
        notes.append("no client holds a head yet: a cut or rewritten end of the ledger could not be seen.")
    notes += [f"the erasure for request {id} was cut off; give the command again." for id in sorted(gone.open)]
    return Verification(tuple(dict.fromkeys(problems)), len(entries), count, models, tuple(notes))


def read_ledger(folder: RunFolder) -> tuple[list[Entry], dict[str, list[dict[str, Any]]]]:
    """The entries, and the tables' rows in order, of one moment; nothing is made or migrated.

    Raises:
        RunFolderError: there is no ledger of this format.
    """
    if folder.ledger_url.startswith("sqlite:///") and not folder.ledger.is_file():
        raise RunFolderError(f"{folder.path} has no ledger yet: nothing was trained in it, or it was deleted.")
    database = LedgerDatabase(folder.ledger_url)
    try:
        with database.read() as connection:
            version = schema.version(connection)
            if version != schema.VERSION:
                raise RunFolderError(
                    f"the ledger of {folder.path} has format {version or 'none'}, and chains begin with format "
                    f"{schema.VERSION}: any other command, such as `fedunlearn requests`, brings it up to date."
                )
            entries = list(chain.read(connection))
            stored = {}
            for table in PROJECTIONS:
                columns = [table.c[name] for name in row_columns(table)]
                rows = connection.execute(select(*columns).order_by(*table.primary_key.columns)).mappings()
                stored[table.name] = [dict(row) for row in rows]
        return entries, stored
    finally:
        database.close()


def client_heads(files: Iterable[Path]) -> tuple[dict[str, list[SignedHead]], list[Problem]]:
    """Who keeps which heads, and the files that cannot be read."""
    heads: dict[str, list[SignedHead]] = {}
    problems = []
    for path in files:
        who = f"client {path.parent.name}" if path.name == HEADS_FILE else path.name
        try:
            heads[who] = [SignedHead.of(one) for one in read_json(path)["heads"]]
        except (ClientError, RunFolderError, KeyError, TypeError) as error:
            problems.append(Problem("heads", f"the heads of {who} cannot be read ({error})."))
    return heads, problems


def referenced(entries: Iterable[Entry]) -> dict[str, str]:
    """Digest -> where the ledger tells of it: every model, and what rounds left beside them."""
    found: dict[str, str] = {}
    for entry in entries:
        try:
            for digest, what in _digests(entry.kind, entry.content()):
                found.setdefault(str(digest), what)
        except (KeyError, TypeError, ValueError):
            continue  # an entry that cannot be read is told by its hash
    return found


def _digests(kind: str, body: Mapping[str, Any]) -> list[tuple[str, str]]:
    if kind == chain.ADOPTED:
        kinds = {"rounds": chain.ROUND, "phases": chain.PHASE, "branches": chain.BRANCH}
        kind, body = kinds.get(body["table"], ""), body["row"]
    if kind == chain.BRANCH:
        return [(body["head"], f"the start of {body['name']}")]
    if kind not in (chain.ROUND, chain.PHASE):
        return []
    what = f"round {body['number']}" if kind == chain.ROUND else f"phase {body['name']}"
    what = f"{what} of {body['branch']}"
    extras = body.get("extras") if kind == chain.ROUND else body["result"].get("extras")
    found = [(body["digest_before"], f"what {what} began with"), (body["digest_after"], what)]
    if kind == chain.ROUND:
        found += [(sent, f"what client {client} sent in {what}") for client, sent in kept_digests(body).items()]
    return found + ([(extras, f"what {what} left")] if extras else [])


def _wrong_models(folder: RunFolder, entries: Sequence[Entry], gone: Tombstones) -> tuple[int, list[Problem]]:
    store = ModelStore(folder.models)
    problems, read = [], 0
    for digest, what in referenced(entries).items():
        if digest in gone.models:
            continue
        try:
            there = store.has(digest)
            if there:
                read += 1
                store.load(digest)
        except CorruptModel as error:
            problems.append(Problem("model", f"the model {digest[:12]} ({what}) is not what the ledger says: {error}"))
            continue
        if not there:
            sentence = f"the model {digest[:12]} ({what}) is missing, and no tombstone says that it was erased."
            problems.append(Problem("model", sentence))
    return read, problems


def _still_there(folder: RunFolder, gone: Tombstones) -> list[Problem]:
    """What was erased to the end and is there again. Reports may be made anew, so that only models count."""
    store = ModelStore(folder.models)
    return [
        Problem("erasure", f"the model {digest[:12]} was erased for request {request}, and is there again.")
        for digest, request in gone.models.items()
        if request in gone.finished and request not in gone.open and store.has(digest)
    ]


def _wrong_key_file(folder: RunFolder, keys: Keys, notes: list[str]) -> list[Problem]:
    """Whether `server-key.pem` is the key that the ledger names last."""
    path = folder.server_key
    if not keys.in_force:
        return []
    named = keys.in_force[-1][1]
    if not path.is_file():
        return [Problem("key", f"{path.name} is gone: nothing can be signed for this run.")]
    try:
        password = password_for(path)
        if is_encrypted(path) and password is None:
            notes.append(f"{path.name} is protected by a password, so that it was not compared with the ledger.")
            return []
        if read_key_file(path, password).public_key == named:
            return []
        following = path.with_name(f"{path.stem}-next{path.suffix}")
        if following.is_file() and read_key_file(following, password).public_key == named:
            return []  # a change of keys that was cut off; the next command completes it
    except KeyFileError as error:
        return [Problem("key", str(error))]
    return [Problem("key", f"{path.name} is not the key that the ledger names ({named[:12]}…): it was swapped.")]


def _wrong_audits(folder: RunFolder, entries: Sequence[Entry]) -> list[Problem]:
    """Whether each audit's file is the one that was recorded last under its name."""
    recorded: dict[str, tuple[int, str]] = {}
    for entry in entries:
        try:
            if entry.kind == chain.EVENT and (body := entry.content())["kind"] == AUDITED:
                recorded[str(body["detail"]["name"])] = (entry.number, str(body["detail"]["sha256"]))
        except (KeyError, TypeError, ValueError):
            continue  # an entry that cannot be read is told by its hash
    problems = []
    for name, (number, expected) in recorded.items():
        path = folder.audit / Path(name).name
        following = path.with_name(f"{path.stem}-next{path.suffix}")
        if following.is_file() and file_digest(following) == expected:
            continue  # an audit that was cut off as it was recorded; the next one puts the file in its place
        if not path.is_file():
            problems.append(Problem("audit", f"audit/{path.name}, which entry {number} tells of, is missing."))
        elif file_digest(path) != expected:
            problems.append(Problem("audit", f"audit/{path.name} is not the one that entry {number} tells of."))
    return problems


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes. Raises RunFolderError when it cannot be read."""
    with told_as_sentence(path, "read"):
        return hashlib.sha256(path.read_bytes()).hexdigest()
