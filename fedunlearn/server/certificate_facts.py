"""What a certificate says of an unlearning, found in the ledger's entries and the audit's document alone.

Whoever issues a certificate and whoever verifies it compute the same, so that a certificate can say nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedunlearn.announcement import Announcement
from fedunlearn.canonical import EXACT
from fedunlearn.errors import RequestError
from fedunlearn.server import ledger_chain as chain
from fedunlearn.server.audit_record import AUDITED
from fedunlearn.server.branches import MAIN, SERVED
from fedunlearn.server.ledger_chain import Entry
from fedunlearn.server.ledger_replay import Replay, Row, replay
from fedunlearn.server.tombstones import tombstones

MEASURED = (
    "metric", "kind", "samples", "original", "unlearned",
    "interval", "limit", "margin", "bound", "informative", "outcome",
)  # fmt: skip
"""What of each metric a certificate repeats; the audit in the evidence has the rest."""

ALWAYS_OPEN = (
    "It is a measurement, not a proof: a model that looks like the retrained ones by every number here may still "
    "differ.",
    "The federation measured itself: the evidence binds the operator to what was recorded, and cannot show that it was "
    "recorded truthfully.",
    "Copies of older models that left the run folder before (backups, exports, models that somebody was given) are not "
    "reached.",
    "The clients' own data, and what they keep of it elsewhere, is their own affair.",
    "Clients are taken to be honest: that a client leaves out what it asked to forget is not seen from outside.",
    "What third parties inferred from models while the data was in them cannot be taken back.",
)
"""What no certificate covers."""


def facts(entries: Sequence[Entry], audit: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the ledger and an audit say of the audited request, ready for a certificate.

    Args:
        entries: of the ledger, up to the one that the certificate names.
        audit: its document.

    Raises:
        RequestError: the audit is of models that the ledger does not tell of, or of no request that is done.
        KeyError, TypeError, ValueError: the document is damaged.
    """
    tables = replay(entries)
    requests = str(audit["request"]).split("+")
    branch = _branch(tables, audit)
    return portable(
        {
            "asked": [_asked(entries, tables, id) for id in requests],
            "done": _done(tables, branch),
            "served": _served(tables, branch),
            "audit": _audit(entries, audit),
            "metrics": _metrics(audit),
            "verdict": audit["verdict"],
            "why": audit["why"],
            "rests_on": audit["rests_on"],
            "earlier": [
                {"request": one["request"], "verdict": one["verdict"], "why": one["why"]} for one in audit["earlier"]
            ],
            "erased": {id: id in tombstones(entries).finished for id in requests},
            "not_covered": _not_covered(entries, audit, requests),
        }
    )


def portable(value: Any) -> Any:
    """Return `value` with whole numbers as text where they are beyond what every program reads exactly."""
    if isinstance(value, Mapping):
        return {str(name): portable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [portable(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > EXACT:
        return str(value)
    return value


def differences(stated: Any, found: Any, where: str = "") -> list[str]:
    """Return where `stated` differs from `found`: the place, what is there, and what follows."""
    if isinstance(stated, Mapping) and isinstance(found, Mapping):
        return [
            one
            for name in sorted({*stated, *found})
            for one in differences(stated.get(name), found.get(name), f"{where}.{name}" if where else name)
        ]
    if isinstance(stated, list) and isinstance(found, list) and len(stated) == len(found):
        pairs = enumerate(zip(stated, found, strict=True))
        return [one for index, (a, b) in pairs for one in differences(a, b, f"{where}[{index}]")]
    if stated == found and isinstance(stated, bool) == isinstance(found, bool):
        return []
    return [f"{where} is stated as {_short(stated)}, and the evidence says {_short(found)}."]


def _branch(tables: Replay, audit: Mapping[str, Any]) -> Row:
    """The branch whose model was audited."""
    for row in reversed(tables.table("branches")):
        finished = (row["request_id"], row["kind"], row["state"]) == (audit["request"], "unlearned", "done")
        if finished and (row["head"], row["settings"].get("base")) == (audit["unlearned"], audit["original"]):
            return row
    raise RequestError(
        f"the ledger tells of no unlearning of {audit['request']} that made model {str(audit['unlearned'])[:12]} out "
        f"of {str(audit['original'])[:12]}: the audit is of other models; audit again."
    )


def _asked(entries: Sequence[Entry], tables: Replay, id: str) -> dict[str, Any]:
    row = tables.rows["requests"][(id,)]
    if row["state"] != "done":
        raise RequestError(f"request {id} is {row['state']}: a certificate is for requests that are done.")
    return {
        "request": id,
        "scope": row["scope"],
        "clients": row["targets"],
        "classes": row["classes"],
        "samples": row["count"],
        "commitments": row["commitment"].split(";"),
        "signatures": signatures(tables, id),
        "recorded": row["created"],
        "done": row["updated"],
    }


def signatures(tables: Replay, id: str) -> str:
    """Return whether the targets signed the request: "hold", "fail", or "not recorded" (by an earlier version)."""
    row = tables.rows["requests"][(id,)]
    keys = {one["client"]: one["public_key"] for one in tables.table("client_keys")}
    for event in tables.table("events"):
        if event["kind"] == "request-arrived" and event["request_id"] == id and event["detail"].get("parts"):
            parts = event["detail"]["parts"]
            whole = {part["client"] for part in parts} == set(row["targets"])
            commitments = ";".join(part["commitment"] for part in parts) == row["commitment"]
            signed = all(_signed(row, part, keys.get(part["client"], "")) for part in parts)
            return "hold" if whole and commitments and signed else "fail"
    return "not recorded"


def _signed(row: Row, part: Mapping[str, Any], key: str) -> bool:
    announcement = Announcement(
        id=row["id"],
        client=part["client"],
        scope=row["scope"],
        classes=None if part["classes"] is None else tuple(part["classes"]),
        count=part["count"],
        commitment=part["commitment"],
        public_key=key,
        signature=part["signature"],
        holders=part["holders"],
    )
    try:
        announcement.verify(key)
    except RequestError:
        return False
    return True


def _done(tables: Replay, branch: Row) -> dict[str, Any]:
    rounds = [row for row in tables.table("rounds") if row["branch"] == branch["name"]]
    phases = [row for row in tables.table("phases") if row["branch"] == branch["name"]]
    both = sorted([*rounds, *phases], key=lambda row: row["recorded"])
    part = {client for row in rounds for client in row["participants"]}
    part |= {int(client) for row in phases for client in row["result"].get("client_seconds", {})}
    settings = branch["settings"]
    own = [event for event in tables.table("events") if event["request_id"] == branch["request_id"]]
    gone = [event for event in own if event["kind"] in ("target-gone", "reference-refused")]
    return {
        "method": settings.get("method"),
        "settings": {name: value for name, value in settings.items() if name not in ("base", "start", "method")},
        "branch": branch["name"],
        "original": settings.get("base"),
        "unlearned": branch["head"],
        "models": [row["digest_after"] for row in both],
        "masks": sorted({row["mask"] for row in both if row["mask"]}),
        "seeds": sorted({str(row["seed"]) for row in both if row["seed"] is not None}),
        "rounds": len(rounds),
        "participants": sorted(part),
        "dropped": [{"client": client, "why": why} for row in rounds for client, why in row["dropped"]],
        "instead_of": gone[-1]["detail"].get("asked") if gone else None,
        "begun": both[0]["recorded"] if both else None,
        "finished": both[-1]["recorded"] if both else None,
    }


def _served(tables: Replay, branch: Row) -> dict[str, Any]:
    """Whether the unlearned model was served, and whether it is the one that is served now."""
    head = tables.rows["branches"][(MAIN,)]["head"]
    served = [
        event
        for event in tables.table("events")
        if event["kind"] == SERVED and event["detail"]["request"] == branch["request_id"]
    ]
    since = next((event["time"] for event in served if event["detail"]["to"] == branch["head"]), None)
    return {"since": since, "model": head, "is_unlearned": head == branch["head"]}


def recorded_audits(entries: Sequence[Entry]) -> dict[str, dict[str, Any]]:
    """Return the last record of each audit's file, by the file's name."""
    found = {}
    for entry in entries:
        if entry.kind == chain.EVENT:
            body = entry.content()
            if body["kind"] == AUDITED:
                found[str(body["detail"]["name"])] = {**body["detail"], "entry": entry.number}
    return found


def _audit(entries: Sequence[Entry], audit: Mapping[str, Any]) -> dict[str, Any]:
    recorded = [one for one in recorded_audits(entries).values() if one["request"] == audit["request"]]
    if not recorded:
        raise RequestError(f"the ledger tells of no audit of {audit['request']}; audit it first.")
    band = audit["band"]
    return {
        "sha256": recorded[-1]["sha256"],
        "entry": recorded[-1]["entry"],
        "tier": audit["tier"],
        "created": audit["created"],
        "band": {"key": band["key"], "size": band["size"], "seeds": [str(seed) for seed in band["seeds"]],
                 "models": band["digests"]},
        "restored": None if audit.get("restored") is None else audit["restored"]["why"],
    }  # fmt: skip


def _metrics(audit: Mapping[str, Any]) -> list[dict[str, Any]]:
    measured = [{name: one.get(name) for name in MEASURED} for one in audit["primary"]]
    if audit.get("canaries") is not None:
        canaries = {name: audit["canaries"].get(name) for name in MEASURED}
        measured.append({**canaries, "metric": "canaries, against chance", "outcome": audit["canaries"]["verdict"]})
    return measured


def _not_covered(entries: Sequence[Entry], audit: Mapping[str, Any], requests: Sequence[str]) -> list[str]:
    """What the certificate does not cover, for this request in particular and for any."""
    own = []
    if audit["rests_on"] == "canaries":
        own.append(
            "It rests on canaries alone: too few models were retrained for comparison, and nothing is said of "
            "accuracy, nor of samples that are no canaries."
        )
    if audit["verdict"] == "inconclusive":
        own.append("Nothing was shown either way: the measurement could not tell the models apart well enough.")
    left_out = sorted(audit.get("left_out") or {})
    if left_out:
        own.append(f"Not measured: {', '.join(left_out)}.")
    unfinished = [id for id in requests if id not in tombstones(entries).finished]
    if unfinished:
        own.append(
            f"What else remembers the data of {', '.join(unfinished)} (older models, what clients keep of them) was "
            f"not erased when this was issued."
        )
    judged = {id for one in audit["earlier"] for id in one["request"].split("+")}
    unjudged = sorted(tombstones(entries).finished - judged - set(requests))
    if unjudged:
        own.append(f"Not judged again, because what they are compared with was erased: {', '.join(unjudged)}.")
    return [*own, *ALWAYS_OPEN]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
