"""A certificate in plain words, for somebody who is not an engineer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VERDICTS = {
    "pass": "PASS: the model cannot be told from models that never saw the data, within the stated margins.",
    "fail": "FAIL: the model can be told from models that never saw the data.",
    "inconclusive": "INCONCLUSIVE: what was measured decides neither way.",
}
OUTCOMES = {
    "pass": "near enough",
    "fail": "too far off",
    "open": "not decided",
    "inconclusive": "not decided",
    "uninformative": "shows nothing",
}
SCOPES = {
    "client": "everything that client {clients} contributed",
    "classes": "client {clients}'s samples of the classes {classes}",
    "samples": "some samples of client {clients}",
    "class-everywhere": "the classes {classes}, at every client that holds them ({clients})",
}


def certificate_words(certificate: Mapping[str, Any]) -> list[str]:
    """Return a certificate (the signed part of its file) as paragraphs; those of a list begin with "- ".

    Raises:
        KeyError: it is not of the form that certificates have.
    """
    done, audit, served = certificate["done"], certificate["audit"], certificate["served"]
    band = audit["band"]["size"]
    lines = [f"Certificate {certificate['id']}, issued {_day(certificate['issued'])}", ""]
    lines += ["What was asked", *(f"- {_asked(one)}" for one in certificate["asked"]), ""]
    method = (
        f"{done['method']} ({_count(done['rounds'], 'round')}, {_count(len(done['participants']), 'client')} took part)"
    )
    if done["instead_of"]:
        method += f", in place of {done['instead_of']}: no client that asked was there to help"
    against = f"against {band} models that were retrained without the data."
    if certificate["rests_on"] == "canaries":
        against = "on planted canaries alone, whose wrong labels a model knows by chance only if it never saw them."
    lines += [
        "What was done",
        f"- The model {_short(done['original'])} was changed into {_short(done['unlearned'])} by {method}.",
        f"- {_served(served)}",
        "",
        "How it was measured",
        f"- {_sentence(against)}",
    ]
    lines += [f"- {_metric(one)}" for one in certificate["metrics"]]
    if audit["restored"]:
        lines.append(f"- {_sentence(audit['restored'])}")
    lines += ["", "Verdict", VERDICTS[certificate["verdict"]], _sentence(certificate["why"])]
    if certificate["earlier"]:
        lines += ["", "Earlier requests, judged again on this model"]
        lines += [f"- {one['request']}: {one['verdict']}. {_sentence(one['why'])}" for one in certificate["earlier"]]
    lines += ["", "What this certificate does not cover", *(f"- {one}" for one in certificate["not_covered"])]
    signer, entries = certificate["issuer"], certificate["ledger"]["entries"]
    lines += [
        "",
        f"Signed with the key {signer['public_key']} of run {signer['run']}, at entry {entries} of its ledger.",
    ]
    return lines


def _asked(one: Mapping[str, Any]) -> str:
    names = {"clients": _and(one["clients"]), "classes": _and(one["classes"] or [])}
    what = SCOPES[one["scope"]].format(**names)
    signed = {"hold": "signed by who asked", "fail": "NOT signed by who asked"}.get(one["signatures"], "not signed")
    return (
        f"Request {one['request']}: forget {what} ({one['samples']} samples), {signed}; recorded "
        f"{_day(one['recorded'])}, done {_day(one['done'])}."
    )


def _served(served: Mapping[str, Any]) -> str:
    if served["is_unlearned"]:
        return f"It has been served since {_day(served['since'])}." if served["since"] else "It is served."
    if served["since"]:
        return f"It was served from {_day(served['since'])} on; the model in use is {_short(served['model'])} by now."
    return f"It was never served; the model in use is {_short(served['model'])}."


def _metric(one: Mapping[str, Any]) -> str:
    interval = one["interval"]
    between = "" if interval is None else f"; without the data {_number(interval[0])} to {_number(interval[1])}"
    name, before, after = one["metric"].replace("_", " "), _number(one["original"]), _number(one["unlearned"])
    return f"{name}: before {before}, after {after}{between}: {OUTCOMES[one['outcome']]}."


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _and(values: list[Any]) -> str:
    texts = [str(value) for value in values]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}" if texts else "-"


def _day(time: str) -> str:
    return time[:16].replace("T", " ") + " UTC"


def _short(digest: str) -> str:
    return digest[:12]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
