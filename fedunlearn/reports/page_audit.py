"""The part of the page that the audit fills: the verdict, its strips and numbers, all requests, the certificate."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from fedunlearn.audit.verdict_document import deviations
from fedunlearn.errors import DataError
from fedunlearn.reports.audit_trail import AuditDocument, AuditTrail, Certified, Standing
from fedunlearn.reports.audit_words import (
    TONES,
    VERDICTS,
    accuracy_sentence,
    headline,
    meaning,
    not_meant,
    points,
    reasons,
)
from fedunlearn.reports.certificate_words import certificate_words
from fedunlearn.reports.document import Document, models_of, request_sentence
from fedunlearn.reports.metric_words import (
    OUTCOMES,
    Entry,
    between,
    judged_entries,
    number,
    outcome_of,
    retrained_mean,
    wording,
)
from fedunlearn.reports.page_tables import cell, sortable_table
from fedunlearn.reports.plots import Picture


def audit_of(document: Document, trail: AuditTrail) -> AuditDocument | None:
    """The audit of the request that a comparison is about; None where there is none."""
    request = document.get("request")
    return trail.audit_of(str(request.get("id"))) if isinstance(request, Mapping) else None


def doubts(document: Document, audit: AuditDocument) -> list[str]:
    """Why the audit must not be taken for the answer to this page's question; each one sentence."""
    found = []
    digest = models_of(document).get("unlearned", {}).get("digest")
    if digest is not None and digest != audit["unlearned"]:
        found.append(
            "This audit judged another model than the one that this page compares: the request was served again since. "
            "Audit it again."
        )
    try:
        wrong = deviations(audit)
    except DataError as error:
        wrong = [str(error)]
    if wrong:
        found.append(f"The audit's file states what does not follow from what was measured: {wrong[0]} Audit it again.")
    return found


def audit_answer(audit: AuditDocument, is_served: bool = True) -> str:
    """The top of the page: the verdict in one sentence, what it means and what it does not, and the reasons.

    Args:
        is_served: whether the judged model is the one in use.
    """
    lines = reasons(audit)
    if not is_served:
        lines.append("The judged model is not the one that is in use now.")
    points_made = "".join(f"<li>{escape(line)}</li>" for line in lines)
    listed = f"<ul>{points_made}</ul>" if points_made else ""
    return (
        f'<section class="answer {TONES[audit["verdict"]]}">'
        f'<p class="kicker">Was it forgotten? {escape(_asked(audit))}</p>'
        f"<h1>{escape(headline(audit))}</h1>"
        f"<p>{escape(meaning(audit))}</p>"
        f"<p><strong>What this does not mean.</strong> {escape(not_meant(audit))}</p>{listed}</section>"
    )


def audit_section(
    audit: AuditDocument, strips: Picture | None, doubted: Sequence[str] = (), is_only: bool = True
) -> str:
    """Strips, then the table, then what was measured beside.

    Args:
        doubted: what `doubts` found.
        is_only: no other request was audited; what all of them cost is then said here.
    """
    warning = "".join(f'<p class="warning"><strong>{escape(line)}</strong></p>' for line in doubted)
    if doubted:
        warning += f"<p>It said: {escape(headline(audit))}</p>"
    figure = ""
    if strips is not None:
        data = base64.b64encode(strips.data).decode()
        alternative = escape(" ".join(_alternative(entry) for entry in judged_entries(audit)))
        figure = (
            f'<figure class="strips"><img alt="{alternative}" src="data:image/png;base64,{data}">'
            f"<figcaption>{escape(strips.caption)}</figcaption></figure>"
        )
    accuracy = accuracy_sentence(audit) if is_only else ""
    return (
        f"<section><h2>What the audit says</h2>{warning}{figure}{_verdict_table(audit)}"
        f'<p class="note">In the verdict\'s own words: {escape(audit["why"])}</p>'
        f"{f'<p>{escape(accuracy)}</p>' if accuracy else ''}{_described(audit)}</section>"
    )


def requests_section(trail: AuditTrail) -> str:
    """Every audited request with its latest judgement, and what all of them together cost; empty for fewer than two."""
    standings = trail.standings()
    if len(standings) < 2:
        return ""
    verdicts = [str(one.judged["verdict"]) for one in standings]
    counted = [f"{verdicts.count(name)} {words[2:]}" for name, words in VERDICTS.items() if name in verdicts]
    first = f"{len(verdicts)} requests were audited; by the latest judgement of each: {', '.join(counted)}."
    accuracy = accuracy_sentence(standings[-1].own)
    heads = [
        "Request",
        "Audited",
        "Verdict then",
        "Verdict now",
        "Accuracy after it",
        "Change so far",
    ]
    return (
        f"<section><h2>All requests so far</h2><p>{escape(first)} Each deletion is judged again after the later ones, "
        "because a later one could bring back what an earlier one removed.</p>"
        f"{sortable_table([*heads, 'Change if retrained'], [_standing(one) for one in standings])}"
        f"{f'<p>{escape(accuracy)}</p>' if accuracy else ''}</section>"
    )


def certificate_section(certified: Certified | None, bundles: str = "certificates") -> str:
    """The certificate in plain words; empty where none was issued."""
    if certified is None:
        return ""
    if certified.certificate is None:
        body = (
            f"<p>A certificate was issued for this model ({escape(certified.bundle)}), but as it was issued it "
            "is not in the run folder: ask whoever has the bundle for it.</p>"
        )
        return f"<section><h2>The certificate</h2>{body}</section>"
    place = escape(f"{bundles}/{certified.bundle}")
    return (
        f'<section><h2>The certificate</h2><div class="certificate">{_paragraphs(certified.certificate)}</div>'
        '<p class="note">This page repeats what the certificate says; the signed file is the certificate. Anybody can '
        f"check it without the run: <code>fedunlearn certificate verify {place}</code></p></section>"
    )


def _asked(judged: Mapping[str, Any]) -> str:
    return request_sentence({"request": judged})


def _verdict_table(audit: AuditDocument) -> str:
    heads = ["Measured", "Before", "Now", "If retrained", "One more lies in", "Margin used", "Outcome"]
    rows = []
    for entry in judged_entries(audit):
        counts = entry.get("margin") and entry.get("bound") is not None and entry.get("informative") is not False
        used = entry["bound"] / entry["margin"] if counts else None
        mean = retrained_mean(entry)
        tone, sign, words = OUTCOMES[outcome_of(entry)]
        what = wording(entry)
        cells = [
            cell(what.label, what.label, f'<span class="delta">{escape(what.meaning)}</span>'),
            *(cell(number(entry, value), value) for value in (entry["original"], entry["unlearned"], mean)),
            cell(between(entry), None if entry.get("interval") is None else entry["interval"][0]),
            cell("–" if used is None else f"{used:.0%}", used),
            cell("", words, f'<span class="outcome {tone}">{sign} {words}</span>'),
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    note = (
        '<p class="note">“One more lies in”: where one more model retrained without the data would lie. “Margin used”: '
        "how much of the difference that is allowed is taken up by what was found and by what is uncertain; up to 100% "
        "is close enough.</p>"
    )
    return sortable_table(heads, rows) + note if rows else ""


def _described(audit: AuditDocument) -> str:
    """Everything that was measured beside, folded away; what a metric refuses for one reason is one row."""
    rows, told = [], set()
    for name, entry in (audit.get("described") or {}).items():
        values = [value for value in entry.get("retrained") or () if value is not None]
        span = "–" if not values else f"{min(values):.3g} to {max(values):.3g}"
        why = name.partition(".")[0], entry.get("refused")
        pair = (entry.get("original"), entry.get("unlearned"))
        if why in told and not values and pair == (None, None):
            continue
        told.add(why)
        refused = f'<span class="delta">{escape(entry["refused"])}</span>' if entry.get("refused") else ""
        cells = [cell(name, name, refused), *(cell(_plain(value), value) for value in pair)]
        rows.append(f"<tr>{''.join(cells)}{cell(span, values[0] if values else None)}</tr>")
    if not rows:
        return ""
    return (
        "<details><summary>Measured beside, and not judged</summary>"
        f"{sortable_table(['Metric', 'Before', 'Now', 'Retrained models'], rows)}</details>"
    )


def _standing(one: Standing) -> str:
    accuracy = one.own.get("accuracy") or {}
    before, now, retrained = (accuracy.get(name) for name in ("before", "unlearned", "retrained"))
    asked = _asked(one.own).removeprefix("The request: ").rstrip(".")
    again = "" if not one.is_again else f'<span class="delta">after {escape(str(one.by["request"]))}</span>'
    cells = [
        cell(str(one.own["request"]), str(one.own["request"]), f'<span class="delta">{escape(asked)}</span>'),
        cell(str(one.own.get("created", "–"))[:10], str(one.own.get("created", "")), style="whole"),
        _verdict_cell(one.own["verdict"]),
        _verdict_cell(one.judged["verdict"], again),
        cell("–" if now is None else f"{now:.1%}", now),
        *(
            cell("–" if before is None or value is None else points(value - before), value, style="whole")
            for value in (now, retrained)
        ),
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _verdict_cell(verdict: str, under: str = "") -> str:
    words = f'<span class="outcome {TONES[verdict]}">{escape(VERDICTS[verdict])}</span>'
    return cell("", verdict, words + under)


def _alternative(entry: Entry) -> str:
    """One metric of the picture for those who cannot see it."""
    mean = retrained_mean(entry)
    return (
        f"{wording(entry).label}: {number(entry, entry['original'])} before, {number(entry, entry['unlearned'])} now, "
        f"{number(entry, mean)} if retrained, one more in {between(entry)}: {OUTCOMES[outcome_of(entry)][2]}."
    )


def _paragraphs(certificate: Mapping[str, Any]) -> str:
    parts: list[str] = []
    for lines in _groups(certificate_words(certificate)):
        heading, rest = (lines[0], lines[1:]) if len(lines) > 1 else ("", lines)
        items = "".join(f"<li>{escape(line[2:])}</li>" for line in rest if line.startswith("- "))
        texts = "".join(f"<p>{escape(line)}</p>" for line in rest if not line.startswith("- "))
        parts.append(
            (f"<h3>{escape(heading)}</h3>" if heading else "") + texts + (f"<ul>{items}</ul>" if items else "")
        )
    return "".join(parts)


def _groups(lines: Iterable[str]) -> list[list[str]]:
    """Lines between empty ones."""
    groups: list[list[str]] = [[]]
    for line in lines:
        if line:
            groups[-1].append(line)
        else:
            groups.append([])
    return [group for group in groups if group]


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
