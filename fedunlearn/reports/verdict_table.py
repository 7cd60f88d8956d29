"""An audit's verdict metric by metric: for the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Group

AuditDocument = Mapping[str, Any]

HEADS = ("metric", "original", "unlearned", "retrained", "one more in", "of margin", "retrained?")
OUTCOMES = {
    "pass": "yes",
    "fail": "no",
    "open": "undecided",
    "uninformative": "cannot tell",
}
WORDS = {"pass": "Pass", "fail": "Fail", "inconclusive": "Inconclusive"}
_COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow"}


def rows(document: AuditDocument) -> list[tuple[str, ...]]:
    """One row a primary metric, in the order of `HEADS`; values as rates or losses."""
    found = [_row(entry) for entry in document["primary"]]
    canaries = document.get("canaries")
    if canaries is not None and document["rests_on"] == "canaries":
        low, high = canaries["interval"]
        values = (_number(canaries["original"]), _number(canaries["unlearned"]), "chance 0.5", _range(low, high))
        outcome = OUTCOMES.get(canaries["verdict"], OUTCOMES["open"])
        found.append(("canaries alone", *values, _used(canaries), outcome))
    return found


def sentences(document: AuditDocument) -> list[str]:
    """The verdict and why, the earlier requests, the accuracy that was lost, what became of the served model."""
    size = document["band"]["size"]
    said = [f"{WORDS[document['verdict']]}: {document['why']}"]
    said += [f"{name}: {why}" for name, why in document.get("left_out", {}).items()]
    for earlier in document.get("earlier", ()):
        said.append(f"Earlier request {earlier['request']}, judged again: {earlier['verdict']}: {earlier['why']}")
    accuracy = document.get("accuracy")
    if accuracy is not None:
        retrained = accuracy["retrained"]
        beside = "" if retrained is None else f" ({size} retrained models: {retrained:.1%})"
        said.append(
            f"Test accuracy {accuracy['before']:.1%} before the first request, {accuracy['unlearned']:.1%} now{beside}."
        )
    if document.get("in_use") is False:
        said.append(f"The judged model, made by “{document['method']['method']}”, is not the one that is in use now.")
    shadows = document.get("shadows")
    if shadows is not None and shadows["why"]:
        said.append(f"No shadows, and so no value of what needs them: {shadows['why']}")
    if document.get("restored"):
        why = document["restored"]["why"]
        said.append(f"{why[:1].upper()}{why[1:]}")
    return said


def verdict_table(document: AuditDocument) -> Group:
    """What the terminal shows."""
    from rich.box import SIMPLE
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    size = document["band"]["size"]
    title = f"Request {document['request']} against {size} retrained model{'' if size == 1 else 's'}"
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE, padding=(0, 0, 0, 1))
    for head in HEADS:
        text, word = head in (HEADS[0], HEADS[-1]), max(len(word) for word in head.split())
        table.add_column(head, justify="left" if text else "right", no_wrap=text, min_width=word)
    for row in rows(document):
        # A name or an interval that is cut off says nothing.
        table.add_row(*row)
    first, *others = sentences(document)
    verdict = Text(first, style=f"bold {_COLOURS[document['verdict']]}")
    return Group(verdict, table, *(Text(sentence) for sentence in others))


def markdown(document: AuditDocument) -> str:
    """The verdict and the table as Markdown."""
    first, *others = sentences(document)
    lines = [f"**{first}**", "", *markdown_table(HEADS, rows(document)), "", *(f"- {one}" for one in others)]
    return "\n".join(lines).rstrip() + "\n"


def markdown_table(heads: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table whose first column is text and whose others are aligned to the right."""
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    return lines + [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in body]


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    values = entry["retrained"]
    mean = "–" if not values else _number(sum(values) / len(values))
    interval = "–" if entry["interval"] is None else _range(*entry["interval"])
    shown = (entry["metric"], _number(entry["original"]), _number(entry["unlearned"]))
    return (*shown, mean, interval, _used(entry), OUTCOMES[entry["outcome"]])


def _used(entry: Mapping[str, Any]) -> str:
    """How much of the margin is used up: reads alike for rates and losses."""
    if not entry["margin"]:
        return "–"
    used = entry["bound"] / entry["margin"]
    return f"{used:.0%}" if used < 10 else "over 10x"


def _range(low: float, high: float) -> str:
    return f"{_number(low)} – {_number(high)}"


def _number(value: float) -> str:
    return f"{value:.3f}" if 0.001 <= value < 100 or value == 0 else f"{value:.3g}"
