"""The comparison as a table: for the terminal, as Markdown, as rows for CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fedunlearn.reports.answer import answer, gap_left
from fedunlearn.reports.document import (
    MODEL_ORDER,
    Document,
    Model,
    after_of,
    label_of,
    models_of,
    request_sentence,
    value,
)
from fedunlearn.reports.measures import MEASURES, present, shown

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

GAP_LEFT = "Gap left: mean distance to the retrained model on what can tell; 0% is as retrained, 100% as before."
_COLOURS = {"forgotten": "green", "not-forgotten": "red", "void": "red"}


def comparison_table(document: Document) -> Group:
    """What the terminal shows: the answer, the models side by side, the controls, the later rounds."""
    from rich.console import Group
    from rich.text import Text

    said = answer(document)
    models = models_of(document)
    parts: list[Table | Text] = [
        Text(said.headline, style=f"bold {_COLOURS.get(said.state, 'yellow')}"),
        Text(request_sentence(document), style="dim"),
    ]
    main = {name: model for name, model in models.items() if name in MODEL_ORDER}
    controls = {name: model for name, model in models.items() if name not in MODEL_ORDER}
    if main:
        parts.append(_side_by_side(main, models, "Compared models"))
    # Three at a time beside what they are controls of: as many as 80 columns hold.
    beside = {name: model for name, model in main.items() if name in ("unlearned", "retrained")}
    for start in range(0, len(controls), 3):
        some = dict(list(controls.items())[start : start + 3])
        parts.append(_side_by_side({**some, **beside}, models, "Controls"))
    for rounds, later in after_of(document).items():
        parts.append(_side_by_side(later, None, f"After {rounds} further ordinary rounds"))
    has_gap = any(gap_left(models, name) is not None for name in models)
    parts += [_bullet(sentence) for sentence in (*said.sentences, *([GAP_LEFT] if has_gap else []))]
    return Group(*parts)


def _bullet(sentence: str) -> Table:
    from rich.table import Table

    row = Table.grid(padding=(0, 1))
    row.add_row("•", sentence)
    return row


def _side_by_side(columns: dict[str, Model], models: dict[str, Model] | None, title: str) -> Table:
    """A column a model, a row a measure; without `models` (later rounds) neither costs nor the gap left."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE, padding=(0, 0, 0, 1))
    table.add_column("", no_wrap=True)
    for name in columns:
        style = {"unlearned": "bold", "retrained": "cyan"}.get(name)
        word = max(len(part) for part in label_of(name).split())
        table.add_column(label_of(name), justify="right", vertical="bottom", style=style, min_width=word)
    role = None
    for measure in present(columns.values()):
        if measure.role == "cost" and models is None:
            continue
        if role not in (None, measure.role):
            table.add_section()
        role = measure.role
        cells = (shown(value(model, measure.key), measure.kind) for model in columns.values())
        table.add_row(measure.label, *cells)
    left = [gap_left(models, name) for name in columns] if models else []
    if any(share is not None for share in left):
        table.add_section()
        table.add_row("Gap left", *(_percent(share) for share in left))
    return table


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def markdown(document: Document) -> str:
    """The answer, and a table with one row a model, as Markdown."""
    said = answer(document)
    lines = [f"**{said.headline}** {request_sentence(document)}", ""]
    lines += _markdown_table(models_of(document), with_gap=True)
    for rounds, later in after_of(document).items():
        lines += ["", f"After {rounds} further ordinary rounds:", "", *_markdown_table(later, with_gap=False)]
    lines += ["", *(f"- {sentence}" for sentence in said.sentences)]
    return "\n".join(lines) + "\n"


def _markdown_table(models: dict[str, Model], with_gap: bool) -> list[str]:
    measures = present(models.values())
    heads = ["model", *(measure.label for measure in measures), *(["gap left"] if with_gap else [])]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for name, model in models.items():
        cells = [label_of(name), *(shown(value(model, measure.key), measure.kind) for measure in measures)]
        if with_gap:
            cells.append(_percent(gap_left(models, name)))
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return lines


def lines_by_model(heads: Sequence[str], rows: Mapping[str, Sequence[str]]) -> list[str]:
    """A Markdown table with one row a model and a column for each head."""
    lines = [f"| model | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    return lines + [f"| {' | '.join([label_of(name), *cells])} |" for name, cells in rows.items()]


def csv_rows(document: Document) -> list[dict[str, str | int | float | None]]:
    """One row a model (and one more after each number of further rounds), one column a number, unrounded."""
    rows: list[dict[str, str | int | float | None]] = []
    stages = {0: models_of(document), **after_of(document)}
    classes = _class_names(stages)
    for rounds, models in stages.items():
        for name, model in models.items():
            row: dict[str, str | int | float | None] = {"model": name, "rounds_after": rounds}
            row |= {measure.key: value(model, measure.key) for measure in MEASURES}
            by_class = model.get("test_accuracy_by_class") or {}
            row |= {f"test_accuracy_by_class.{label}": value({"x": by_class.get(label)}, "x") for label in classes}
            rows.append(row)
    return rows


def csv_text(document: Document) -> str:
    """`csv_rows` as CSV with a header; empty cells where there is no number."""
    rows = csv_rows(document)
    heads = list(rows[0]) if rows else ["model", "rounds_after", *(measure.key for measure in MEASURES)]
    text = io.StringIO()
    writer = csv.DictWriter(text, heads, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _class_names(stages: dict[int, dict[str, Model]]) -> list[str]:
    names: dict[str, None] = {}
    for models in stages.values():
        for model in models.values():
            names |= dict.fromkeys(model.get("test_accuracy_by_class") or {})
    return list(names)
