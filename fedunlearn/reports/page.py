"""One self-contained HTML page: the answer first, then numbers and pictures, then what they mean."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from fedunlearn.reports.answer import Answer, Finding, answer
from fedunlearn.reports.audit_trail import AuditTrail
from fedunlearn.reports.audit_words import headline
from fedunlearn.reports.document import Document, after_of, joined, models_of, request_sentence
from fedunlearn.reports.measures import shown
from fedunlearn.reports.page_audit import (
    audit_answer,
    audit_of,
    audit_section,
    certificate_section,
    doubts,
    requests_section,
)
from fedunlearn.reports.page_style import CSS, PAGE, SCRIPT, section
from fedunlearn.reports.page_tables import class_table, cost_table, model_table
from fedunlearn.reports.page_words import measure_words, model_words, question
from fedunlearn.reports.plots import Picture

_TONES = {"forgotten": "good", "not-forgotten": "bad", "void": "bad"}
_BADGES = {
    "reached": ("good", "as good as retrained"),
    "partly": ("fair", "more than half of the way"),
    "left": ("bad", "less than half of the way"),
    "past": ("fair", "further than retraining goes"),
}


def page(
    document: Document,
    pictures: Sequence[Picture],
    trail: AuditTrail | None = None,
    images: Sequence[Picture] = (),
) -> str:
    """The whole page as HTML; nothing in it is fetched from anywhere.

    Args:
        trail: audits and certificates of the run. An audit of the compared model outranks the comparison: its verdict
            is the answer, and the comparison's reading follows as one of the parts.
        images: pictures of clients' own images; they follow the numbers.
    """
    said = answer(document)
    models = models_of(document)
    trail = trail or AuditTrail()
    audit = audit_of(document, trail)
    doubted = [] if audit is None else doubts(document, audit)
    decided = audit is not None and not doubted
    strips = next((picture for picture in pictures if picture.name == "verdict"), None)
    pictures = [picture for picture in pictures if picture is not strips]
    audited = [] if audit is None else [
        audit_section(audit, strips, doubted, len(trail.audits) == 1),
        requests_section(trail),
        certificate_section(trail.certificate_of(audit)),
    ]  # fmt: skip
    parts = [
        audit_answer(audit, trail.is_served(audit)) if audit is not None and decided else _answer(said, document),
        *(audited if decided else ()),
        _compared(said) if decided else "",
        _tiles(said.findings),
        *(() if decided else audited),
        *(_figure(picture) for picture in pictures[:1]),
        section("All numbers", _NUMBERS_NOTE + model_table(models)) if models else "",
        *(_figure(picture) for picture in images),
        *(_figure(picture, cost_table(models) if picture.name == "cost" else "") for picture in pictures[1:]),
        *(
            section(
                f"After {rounds} further ordinary rounds",
                "<p>The federation went on training. What was forgotten must not come back.</p>" + model_table(later),
            )
            for rounds, later in after_of(document).items()
        ),
        _details("Test accuracy, class by class", class_table(models)),
        section("Who is who", _words(model_words(models))) if models else "",
        section("What the numbers mean", _words(measure_words(models))) if models else "",
        section("What this page does not show", _AUDIT_LIMITS if decided else _LIMITS),
        _details("How the run was set up", _settings(document)),
    ]
    return PAGE.format(
        title=escape(f"{headline(audit) if audit is not None and decided else said.headline} – fedunlearn report"),
        css=CSS,
        body="\n".join(part for part in parts if part),
        script=SCRIPT,
    )


_NUMBERS_NOTE = (
    '<p class="note">Small numbers: difference to the retrained model (percentages: in percentage points). '
    "Click a heading to sort. The good value is the retrained model's, not zero and not one hundred.</p>"
)

_LIMITS = """<ul>
<li>It is one comparison. How much retraining itself varies by chance is not measured here, and small
differences mean nothing.</li>
<li>It shows what was looked for. Other ways of looking for memory may find what these did not.</li>
<li>It is not a certificate and no legal opinion.</li>
</ul>"""


_AUDIT_LIMITS = """<ul>
<li>It shows what was looked for. Other ways of looking for memory may find what these did not.</li>
<li>All but the audit is one comparison, in which small differences mean nothing.</li>
<li>It is no legal opinion, and only a signed certificate is a certificate.</li>
</ul>"""


def _compared(said: Answer) -> str:
    """What one comparison says, below an audit's verdict; empty where it lacks a model for an answer."""
    if said.state == "open":
        return ""
    note = (
        "One comparison with one retrained model, beside the audit. Where it reads differently, the audit counts: it "
        "knows how much retrained models differ by chance."
    )
    reasons = "".join(f"<li>{escape(line)}</li>" for line in _reasons(said))
    return section(
        "What one comparison says",
        f'<p><strong>{escape(said.headline)}</strong></p><p class="note">{note}</p><ul>{reasons}</ul>',
    )


def _reasons(said: Answer) -> list[str]:
    """The sentences that the tiles do not show."""
    measured = {f"{one.measure.label}:" for one in said.findings}
    return [line for line in said.sentences if not any(line.startswith(start) for start in measured)]


def _answer(said: Answer, document: Document) -> str:
    points = "".join(f"<li>{escape(line)}</li>" for line in _reasons(said))
    return (
        f'<section class="answer {_TONES.get(said.state, "fair")}">'
        f'<p class="kicker">Was it forgotten? {escape(request_sentence(document))}</p>'
        f"<h1>{escape(said.headline)}</h1>"
        f"<p>{escape(_IN_SHORT.get(said.state, ''))}</p><ul>{points}</ul></section>"
    )


_IN_SHORT = {
    "forgotten": "Wherever memory of the data could be seen, the model now behaves like one that was "
    "trained again from scratch without it.",
    "mostly": "Wherever memory of the data could be seen, the model is more than half of the way to one "
    "that was trained again from scratch without it, but not everywhere as good as there.",
    "past": "Memory of the data is gone, but on some measure the model is further away from it than one "
    "that was trained again from scratch without it. That shows as well.",
    "partly": "On some measures the model behaves like one that was trained again from scratch without "
    "the data, on others it does not.",
    "not-forgotten": "Wherever memory of the data could be seen, the model still remembers more than half of it.",
    "cannot-tell": "There was no visible memory to remove.",
}


def _tiles(found: Iterable[Finding]) -> str:
    tiles = []
    for one in found:
        kind = one.measure.kind
        tone, words = _BADGES[one.state]
        tiles.append(
            f'<div class="tile {tone}"><h3>{escape(question(one.measure))}</h3>'
            f'<p class="note">{escape(one.measure.label)}</p><dl>'
            f"<dt>before</dt><dd>{shown(one.original, kind)}</dd>"
            f'<dt class="now">now</dt><dd class="now">{shown(one.model, kind)}</dd>'
            f"<dt>if retrained</dt><dd>{shown(one.retrained, kind)}</dd></dl>"
            f'<span class="badge">{words}</span></div>'
        )
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _figure(picture: Picture, below: str = "") -> str:
    data = base64.b64encode(picture.data).decode()
    alternative = escape(f"{picture.title} {picture.caption}")
    return section(
        picture.title,
        f'<figure><img alt="{alternative}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>{below}",
    )


def _details(title: str, body: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{body}</details>" if body else ""


def _words(entries: Iterable[tuple[str, str]]) -> str:
    return (
        '<dl class="words">'
        + "".join(f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>" for word, meaning in entries)
        + "</dl>"
    )


def _settings(document: Document) -> str:
    rows = []
    for part in ("run", "request", "method"):
        entries = document.get(part)
        for name, entry in (entries if isinstance(entries, Mapping) else {}).items():
            rows.append(f"<tr><td>{escape(f'{part}: {name}')}</td><td>{escape(_plain(entry))}</td></tr>")
    return f'<div class="scroll"><table><tbody>{"".join(rows)}</tbody></table></div>' if rows else ""


def _plain(entry: Any) -> str:
    if entry is None:
        return "–"
    if isinstance(entry, Mapping):
        return ", ".join(f"{name} {_plain(part)}" for name, part in entry.items())
    if isinstance(entry, list | tuple):
        return joined([_plain(part) for part in entry])
    return f"{entry:g}" if isinstance(entry, float) else str(entry)
