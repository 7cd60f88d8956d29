"""What was erased, as the ledger's entries tell it: names and digests stay, the things themselves are gone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fedunlearn.server import ledger_chain as chain
from fedunlearn.server.kept_updates import kept_digests
from fedunlearn.server.ledger_chain import Entry

BEGUN, FINISHED = "begun", "finished"


@dataclass
class Tombstones:
    """What the erasures so far took away.

    Attributes:
        models: digest -> the request with which it went.
        files: name in the run folder -> the request with which it went.
        finished: requests whose erasure was carried through.
        open: requests whose erasure was begun and cut off.
    """

    models: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    open: set[str] = field(default_factory=set)


def tombstones(entries: Iterable[Entry]) -> Tombstones:
    """Read the tombstones; a model that was recorded again after it went is there again."""
    found = Tombstones()
    for entry in entries:
        if entry.kind in (chain.ROUND, chain.PHASE, chain.BRANCH, chain.TOMBSTONE, chain.EVENT):
            try:
                _apply(found, entry.kind, entry.content())
            except (KeyError, TypeError, ValueError):
                continue  # an entry that cannot be read is told by its hash
    return found


def _apply(found: Tombstones, kind: str, body: Mapping[str, Any]) -> None:
    if kind != chain.TOMBSTONE:
        again = [body.get("digest_after"), body.get("extras"), body.get("head")]
        again += [body.get("result", {}).get("extras"), body.get("detail", {}).get("digest")]
        again += kept_digests(body).values()
        for digest in again:
            found.models.pop(str(digest), None)
        return
    request = str(body["request"])
    if body["stage"] == FINISHED:
        found.finished.add(request)
        found.open.discard(request)
        return
    found.open.add(request)
    found.models.update({str(item["digest"]): request for item in body["models"]})
    found.files.update({str(item["name"]): request for item in body["files"]})
