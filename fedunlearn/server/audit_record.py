"""What an audit leaves behind: its document, its verdict in the ledger, and a served model that is taken back."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedunlearn.files import atomic_write_bytes, json_bytes, make_folder, told_as_sentence
from fedunlearn.server.branches import MAIN, RESTORED, is_taken_back, served_digest, was_served
from fedunlearn.server.figure_store import file_name
from fedunlearn.server.judging import Case, Figures, served_before
from fedunlearn.server.session import Session

AUDITED = "audited"
"""The event of a finished audit: "name" and "sha256" of its document, and what that says."""


def audit_path(session: Session, requests: Sequence[str]) -> Path:
    """Where the document of the last audit of these requests lies."""
    return session.folder.audit / f"audit-{file_name(requests)}.json"


def publish(session: Session, case: Case, document: Mapping[str, Any]) -> Path:
    """Write an audit's document and record it, so that whatever kills the process the two agree.

    Where the document says so, the model from before is served again in the same transaction.

    Args:
        document: plain JSON; "restored" is what `restoration` said, or None.
    """
    path = audit_path(session, case.job.requests)
    following = path.with_name(f"{path.stem}-next{path.suffix}")
    make_folder(path.parent)
    data = json_bytes(document)
    atomic_write_bytes(following, data)
    _record(session, case, document, path.name, hashlib.sha256(data).hexdigest())
    with told_as_sentence(path, "written"):
        os.replace(following, path)
    return path


def finish_interrupted(session: Session) -> None:
    """Put documents in their place that were recorded when the process was killed, and delete those that were not."""
    recorded = {str(event.detail["name"]): event.detail["sha256"] for event in session.ledger.events(AUDITED)}
    for following in session.folder.audit.glob("audit-*-next.json"):
        name = f"{following.stem.removesuffix('-next')}.json"
        with told_as_sentence(following, "moved"):
            if hashlib.sha256(following.read_bytes()).hexdigest() == recorded.get(name):
                os.replace(following, following.with_name(name))
            else:
                following.unlink()


def restoration(session: Session, case: Case) -> dict[str, str | None] | None:
    """What becomes of the served model when the case's has failed; None when it is not the one that is served.

    Returns:
        "from", "to" (digests; "to" is None when nothing can be restored) and "why", a sentence.
    """
    if is_taken_back(session, case.job):
        return None
    if served_digest(session) == case.branch.head:
        why = (
            f"the audit failed: the model from before request {case.requests} is served again. Its data stays out of "
            f"all training; serve the request by another method: fedunlearn unlearn RUN --request {case.requests} "
            "--method NAME."
        )
        return {"from": case.branch.head, "to": case.original, "why": why}
    if not was_served(session, case.branch):
        return None
    why = (
        "the audit failed, and the model that is served now was made out of the failed one; it stays, because taking "
        "it back would undo what came later."
    )
    return {"from": case.branch.head, "to": None, "why": why}


def _record(session: Session, case: Case, document: Mapping[str, Any], name: str, digest: str) -> None:
    band = document["band"]
    detail = {
        "name": name,
        "sha256": digest,
        "request": case.requests,
        "verdict": document["verdict"],
        "why": document["why"],
        "rests_on": document["rests_on"],
        "tier": document["tier"],
        "unlearned": document["unlearned"],
        "band": {"key": band["key"], "size": band["size"]},
    }
    restored = document["restored"]
    with session.ledger.transaction():
        session.ledger.append_event(AUDITED, detail, case.requests)
        if restored is not None and restored["to"] is not None:
            session.ledger.move_head(MAIN, restored["to"], RESTORED, {"request": case.requests, "why": restored["why"]})


def accumulated(
    session: Session, case: Case, of: Callable[[str], Figures], band: Sequence[str]
) -> dict[str, Any] | None:
    """Test accuracy before the first of all requests, now, and of the band: what forgetting has cost so far.

    None where the task answers with no classes.
    """
    # What was erased can be measured no more: counted from the first request whose models are still there.
    first = next((one for one in served_before(session, case) if session.models.has(one.original)), case)
    if "test_accuracy" not in of(case.branch.head):
        return None
    before, now = (of(digest)["test_accuracy"].value for digest in (first.original, case.branch.head))
    retrained = [of(digest)["test_accuracy"].value for digest in band]
    mean = sum(retrained) / len(retrained) if retrained else None
    return {"before": before, "unlearned": now, "retrained": mean, "lost": before - now}
