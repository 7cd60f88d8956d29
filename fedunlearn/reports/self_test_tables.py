"""The self-test's answer as tables: for the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedunlearn.audit.calibration import LEFT_OUT
from fedunlearn.reports.verdict_table import markdown_table

if TYPE_CHECKING:
    from rich.console import Group

Document = Mapping[str, Any]

HEADS = ("model", "passed", "failed", "inconclusive", "failed where it can be told", "by", "as asked")


def headline(document: Document) -> str:
    """What came out, in a sentence."""
    first = (
        "All that was asked of the verdict holds" if document["met"] else "Not all that was asked of the verdict holds"
    )
    return f"{first}: {document['models']} retrained models a request, {document['repetitions']} repetitions."


def case_sentences(name: str, case: Mapping[str, Any]) -> list[str]:
    """How far the original is from retrained, metric by metric."""
    far = [
        f"{metric} {'–' if deviations is None else f'{deviations:.1f}'}"
        for metric, deviations in case["separation"].items()
    ]
    enough = "" if case["far_enough"] else " That is too near: the self-test asks for 16 in a metric of removal."
    return [f"{name}: deviations between original and retrained: {', '.join(far)}.{enough}"]


def rows(case: Mapping[str, Any], band: str) -> list[tuple[str, ...]]:
    """One row a model, in the order of `HEADS`."""
    subjects = case["bands"][band]["subjects"]
    order = [LEFT_OUT, *(name for name in subjects if name != LEFT_OUT)]
    return [_row(name, subjects[name], case["subjects"].get(name, "")) for name in order]


def _row(name: str, entry: Mapping[str, Any], what: str) -> tuple[str, ...]:
    total = entry["repetitions"]
    low, high = entry["limits"]["pass" if name == LEFT_OUT else "fail"]
    limits = f" ({low:.2f} to {high:.2f})"
    passed = f"{entry['pass']}/{total}{limits if name == LEFT_OUT else ''}"
    failed = f"{entry['fail']}/{total}{'' if name == LEFT_OUT else limits}"
    by = [f"{metric} {count}" for metric, count in entry["failed_by_metric"].items() if count]
    asked = entry["asked"]
    missed = [words for words, holds in asked.items() if not holds]
    answer = "–" if not asked else "yes" if not missed else f"no: {', '.join(missed)}"
    told = f"{entry['failed_where_tellable']}/{entry['tellable']}" if what else "–"
    shown = f"{name}: {what}" if what else name
    return (shown, passed, failed, str(entry["inconclusive"]), told, ", ".join(by) or "–", answer)


def markdown(document: Document) -> str:
    """The whole answer as Markdown."""
    lines = ["# Self-test of the verdict", "", f"**{headline(document)}**", ""]
    lines += [
        "Each repetition draws a band and one more model from the pool, and judges that one and every control. In",
        "parentheses are exact limits (Clopper-Pearson, 95 %) of the share of passes for the left-out model, of fails",
        "for all others; bands overlap, so that they are somewhat too narrow.",
    ]
    for name, case in document["cases"].items():
        lines += ["", f"## {name}", "", *case_sentences(name, case), "", *_values(case)]
        for band in case["bands"]:
            lines += ["", f"Band of {band}:", "", *markdown_table(HEADS, rows(case, band))]
    made = document["environment"]
    versions = ", ".join(f"{package} {version}" for package, version in made["packages"].items() if version)
    lines += ["", f"Made {document['date']} with {versions}, Python {made['python']}; source {made['source'][:12]}."]
    return "\n".join(lines) + "\n"


def _values(case: Mapping[str, Any]) -> list[str]:
    """What was measured: each model in a row, each metric in a column."""
    metrics = case["metrics"]
    heads = ["measured", *(metric["metric"] for metric in metrics)]
    body: list[Sequence[str]] = [
        ["original", *(_number(metric["original"]) for metric in metrics)],
        ["retrained, least to most", *(_range(metric["retrained"]) for metric in metrics)],
    ]
    for name in metrics[0]["subjects"]:
        body.append([name, *(_number(metric["subjects"][name]) for metric in metrics)])
    return markdown_table(heads, body)


def _number(value: float) -> str:
    return f"{value:.4g}"


def _range(values: Sequence[float]) -> str:
    return f"{_number(min(values))} to {_number(max(values))}"


def self_test_table(document: Document) -> Group:
    """What the terminal shows: the answer, and a table a case for its first size of band."""
    from rich.box import SIMPLE
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[Table | Text] = [Text(headline(document), style="bold green" if document["met"] else "bold red")]
    for name, case in document["cases"].items():
        parts += [Text(sentence) for sentence in case_sentences(name, case)]
        for band in list(case["bands"])[:1]:
            table = Table(title=f"{name}, band of {band}", title_justify="left", box=SIMPLE, padding=(0, 0, 0, 1))
            for head in HEADS:
                table.add_column(head, overflow="fold")
            for row in rows(case, band):
                table.add_row(*row)
            parts.append(table)
    return Group(*parts)
