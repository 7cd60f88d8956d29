"""The tables of the report page."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from fedunlearn.audit.distance import gap
from fedunlearn.reports.answer import gap_left
from fedunlearn.reports.document import Model, label_of, value
from fedunlearn.reports.measures import Measure, present, shown, shown_gap


def model_table(models: Mapping[str, Model]) -> str:
    """A row a model, a column a measure but costs, sortable; small, the difference to the retrained model."""
    measures = [measure for measure in present(models.values()) if measure.role != "cost"]
    left = {name: gap_left(dict(models), name) for name in models}
    with_gap = any(share is not None for share in left.values())
    heads = ["Model", *(["Gap left"] if with_gap else []), *(measure.label for measure in measures)]
    rows = []
    for name, model in models.items():
        share = left[name]
        cells = [cell("–" if share is None else f"{share:.0%}", share)] if with_gap else []
        cells += [_measured(model, models.get("retrained"), measure, name) for measure in measures]
        rows.append(_row(name, cells))
    return sortable_table(heads, rows)


def cost_table(models: Mapping[str, Model]) -> str:
    """A row a model, a column a cost, sortable; empty where no cost is known."""
    measures = present(models.values(), "cost")
    rows = [
        _row(name, [cell(shown(number, m.kind), number) for m in measures for number in [value(model, m.key)]])
        for name, model in models.items()
    ]
    if not measures:
        return ""
    note = '<p class="note">The original\'s row is what training it took in the first place.</p>'
    table = sortable_table(["Model", *(measure.label for measure in measures)], rows)
    return table + note if "original" in models else table


def class_table(models: Mapping[str, Model]) -> str:
    """A row a class, a column a model; empty where no model has accuracies by class."""
    by_class = {
        name: entry
        for name, model in models.items()
        if isinstance(entry := model.get("test_accuracy_by_class"), Mapping)
        and any(share is not None for share in entry.values())
    }
    names = list(dict.fromkeys(label for entry in by_class.values() for label in entry))
    if not names:
        return ""
    rows = []
    for label in names:
        numbers = [value({"x": entry.get(label)}, "x") for entry in by_class.values()]
        cells = [
            cell(str(label), str(label)),
            *(cell(shown(number, "share"), number) for number in numbers),
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return sortable_table(["Class", *(label_of(name) for name in by_class)], rows)


def _measured(model: Model, retrained: Model | None, measure: Measure, name: str) -> str:
    number = value(model, measure.key)
    under = ""
    if name != "retrained":
        difference = shown_gap(gap(number, value(retrained, measure.key)), measure.kind)
        under = f'<span class="delta">{difference}</span>' if difference else ""
    return cell(shown(number, measure.kind), number, under)


def _row(name: str, cells: list[str]) -> str:
    ours = " class=ours" if name == "unlearned" else ""
    return f"<tr{ours}>{cell(label_of(name), label_of(name))}{''.join(cells)}</tr>"


def cell(text: str, key: str | float | None, under: str = "", style: str = "") -> str:
    """A cell that sorts by `key`; `under` is markup, `style` a class of the style sheet."""
    named = f' class="{style}"' if style else ""
    return f'<td{named} data-sort="{"" if key is None else escape(str(key))}">{escape(text)}{under}</td>'


def sortable_table(heads: list[str], rows: list[str]) -> str:
    """A table whose columns can be sorted; the rows are made of `cell`."""
    head = "".join(f'<th scope="col"><button type="button">{escape(text)}</button></th>' for text in heads)
    return (
        f'<div class="scroll"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
