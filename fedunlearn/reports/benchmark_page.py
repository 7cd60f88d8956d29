"""A benchmark as one self-contained HTML page: a table to sort and to filter, pictures, every single run, the tries."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from fedunlearn.reports.aggregate import CellAggregate, ModelAggregate
from fedunlearn.reports.benchmark_contest_tables import (
    allowed_words,
    band_label,
    band_range,
    band_words,
    refusals,
    try_changes,
    try_distance,
)
from fedunlearn.reports.benchmark_csv import Row, heads_of
from fedunlearn.reports.benchmark_measures import BY_KEY, COST_SHARES, FIGURES
from fedunlearn.reports.document import MODEL_ORDER, label_of
from fedunlearn.reports.page_style import CSS, PAGE, SCRIPT, section
from fedunlearn.reports.page_tables import cell as table_cell
from fedunlearn.reports.page_tables import sortable_table
from fedunlearn.reports.spread import shown_spread

WHOLE = "results"
"""What a cell without a name is called."""


def benchmark_page(
    name: str,
    question: str,
    cells: Sequence[CellAggregate],
    rows: Sequence[Row],
    provenance: Mapping[str, Any],
    pictures: Mapping[str, Mapping[str, bytes]],
    tuning: Mapping[str, Any] | None = None,
) -> str:
    """The whole page as HTML; nothing in it is fetched from anywhere.

    Args:
        rows: every single run, as the CSV has them.
        pictures: cell -> file name -> PNG.
        tuning: the tries, as `results.json` has them.
    """
    parts = [
        f'<p class="kicker">Benchmark, written {escape(str(provenance["date"]))}</p><h1>{escape(name)}</h1>',
        f"<p>{escape(question)}</p>" if question else "",
        _voids(cells),
        _filters(cells),
        section("Means over the seeds", _NOTE + _means(cells)),
        *(_band(cell) for cell in cells),
        *(_figure(file, data) for drawn in pictures.values() for file, data in drawn.items()),
        _details("Every single run", _runs(rows)),
        "" if tuning is None else _details("The tries of the tuning", _tries(tuning)),
        _details("How it came about", _origin(provenance)),
    ]
    body = "\n".join(part for part in parts if part)
    title = f"{escape(name)} – fedunlearn benchmark"
    return PAGE.format(title=title, css=CSS + _CSS, body=body, script=SCRIPT + _SCRIPT)


_CSS = """
body { max-width: 90rem; }
.filters { display: flex; flex-wrap: wrap; gap: 0.6rem 1.2rem; margin: 1.2rem 0 0; align-items: end; }
.filters label { display: grid; gap: 0.2rem; font-size: 0.85rem; color: var(--muted); }
.filters select, .filters input { font: inherit; color: var(--text); background: var(--card);
  border: 1px solid var(--line); border-radius: 0.3rem; padding: 0.3rem 0.5rem; max-width: 18rem; }
.filters output { font-size: 0.9rem; color: var(--muted); padding-bottom: 0.4rem; }
tr.within td:first-child { box-shadow: inset 0.3rem 0 var(--good); }
td { white-space: nowrap; }
td.text { text-align: left; } td[colspan] { white-space: normal; }
"""

_SCRIPT = """
const filters = [...document.querySelectorAll("[data-filter]")];
const filtered = () => {
  const wanted = filters.map((one) => [one.dataset.filter, one.value.trim().toLowerCase()]);
  const rows = [...document.querySelectorAll("tr[data-cell]")];
  for (const row of rows) {
    row.hidden = wanted.some(([part, value]) => value !== "" && (part === "text"
      ? !row.textContent.toLowerCase().includes(value) : row.dataset[part].toLowerCase() !== value));
  }
  const means = rows.filter((row) => row.closest("#means"));
  document.querySelector("#shown").textContent =
    means.filter((row) => !row.hidden).length + " of " + means.length + " rows";
};
for (const one of filters) one.addEventListener("input", filtered);
filtered();
"""

_NOTE = (
    '<p class="note">Figures are means ± standard deviations of the sample over the seeds. The good value is the '
    "retrained model's, not zero and not one hundred. A green edge: no farther from it than a model retrained from "
    "another seed. Click a heading to sort.</p>"
)


def _filters(cells: Sequence[CellAggregate]) -> str:
    models = dict.fromkeys(name for cell in cells for name in (*cell.models, *cell.contenders))
    choices = {
        "cell": [cell.cell or WHOLE for cell in cells],
        "kind": sorted({_kind(cell, name) for cell in cells for name in (*cell.models, *cell.contenders)}),
        "method": list(models),
    }
    selects = "".join(
        f'<label>{part}<select data-filter="{part}"><option value="">all</option>'
        + "".join(f'<option value="{escape(one)}">{escape(_words(part, one))}</option>' for one in several)
        + "</select></label>"
        for part, several in choices.items()
    )
    text = '<label>contains<input type="search" data-filter="text"></label>'
    return f'<form class="filters" onsubmit="return false">{selects}{text}<output id="shown"></output></form>'


def _words(part: str, one: str) -> str:
    return label_of(one) if part == "method" else one


def _kind(cell: CellAggregate, name: str) -> str:
    if name in cell.contenders:
        return cell.contenders[name].kind
    return "under test" if name == "unlearned" else "reference" if name in MODEL_ORDER else "control"


def _means(cells: Sequence[CellAggregate]) -> str:
    entries = [one for cell in cells for one in cell.models.values()]
    measures = [measure for measure in FIGURES if any(one.figures.get(measure.key) for one in entries)]
    losses = [key for key in BY_KEY if any(one.losses.get(key) for one in entries)]
    shares = [key for key in COST_SHARES if any(one.cost.get(key) for one in entries)]
    contest = any(cell.contenders for cell in cells)
    heads = ["Method", "Cell", "Kind", "Mean distance", *(f"{BY_KEY[key].label}: distance" for key in losses)]
    heads += [*(measure.label for measure in measures), *(f"{COST_SHARES[key]} of retrained's" for key in shares)]
    heads += ["Budget"] if contest else []
    rows = []
    for cell in cells:
        for name, one in cell.models.items():
            cells_of_row = [_spread(one.distance, "share"), *(_spread(one.losses.get(key), "score") for key in losses)]
            for measure in measures:
                hidden = name == "original" and measure.role == "cost"
                cells_of_row.append(_spread(None if hidden else one.figures.get(measure.key), measure.kind))
            prices: Mapping[str, Any] = {} if name == "original" else one.cost
            cells_of_row += [_spread(prices.get(key), "score") for key in shares]
            cells_of_row += [_budget(cell, name)] if contest else []
            rows.append(_row(cell, name, label_of(name), _kind(cell, name), cells_of_row, one))
        if cell.band is not None:
            band = cell.band
            blank = [table_cell("–", None)]
            ranges = [
                table_cell(band_range(band, measure), band.figures.get(measure.key, (None, None))[0])
                for measure in measures
            ]
            cells_of_row = [_spread(band.distance, "share"), *(blank * len(losses)), *ranges, *(blank * len(shares))]
            rows.append(_row(cell, "band", band_label(band), "reference", cells_of_row + blank * contest, None))
        for name, why in refusals(cell):
            if name not in cell.models:
                told = f'<td class="text" colspan="{len(heads) - 3}" data-sort="">cannot: {escape(why)}</td>'
                rows.append(_row(cell, name, label_of(name), _kind(cell, name), [told], None))
    return f'<div id="means">{sortable_table(heads, rows)}</div>'


def _row(
    cell: CellAggregate, name: str, label: str, kind: str, cells: Iterable[str], one: ModelAggregate | None
) -> str:
    inside = one is not None and cell.band is not None and name not in ("original", "retrained")
    within = inside and one is not None and cell.band is not None and cell.band.holds(one.distance)
    classes = [word for word, true in (("ours", name == "unlearned"), ("within", within)) if true]
    where = cell.cell or WHOLE
    head = "".join(table_cell(text, text, style="text") for text in (label, where, kind))
    return (
        f'<tr class="{" ".join(classes)}" data-cell="{escape(where)}" data-method="{escape(name)}" '
        f'data-kind="{escape(kind)}">{head}{"".join(cells)}</tr>'
    )


def _spread(spread: Any, kind: str) -> str:
    return table_cell(shown_spread(spread, kind), None if spread is None else spread.mean)


def _budget(cell: CellAggregate, name: str) -> str:
    one = cell.contenders.get(name)
    text = "–" if one is None else allowed_words(one).replace("**", "")
    return table_cell(text, None if one is None or one.allowed is None else one.allowed)


def _runs(rows: Sequence[Row]) -> str:
    heads = [head for head in heads_of(rows) if head not in ("model", "cell", "kind")]
    made = []
    for row in rows:
        where, kind, name = str(row["cell"] or WHOLE), str(row.get("kind") or ""), str(row["model"])
        texts = [table_cell(name, name, style="text"), table_cell(where, where, style="text")]
        texts += [table_cell(_plain(row.get(head)), row.get(head)) for head in heads]
        made.append(
            f'<tr data-cell="{escape(where)}" data-method="{escape(name)}" data-kind="{escape(kind)}">'
            f"{''.join(texts)}</tr>"
        )
    return sortable_table(["model", "cell", *heads], made)


def _plain(value: str | int | float | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, str):
        return value[:12] if len(value) == 64 else value
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _tries(tuning: Mapping[str, Any]) -> str:
    seeds = ", ".join(str(seed) for seed in tuning["seeds"])
    note = f'<p class="note">Up to {tuning["tries"]} tries a method on validation requests, seeds {seeds}.</p>'
    rows = []
    for where, contenders in tuning["cells"].items():
        for name, tries in contenders.items():
            for one in tries:
                distance = None if one["distance"] is None else one["distance"]["mean"]
                cells = [
                    table_cell(label_of(name), label_of(name), style="text"),
                    table_cell(where or WHOLE, where or WHOLE, style="text"),
                    table_cell(str(one["number"]), one["number"]),
                    table_cell(try_changes(one, len(tries)), try_changes(one, len(tries)), style="text"),
                    table_cell(try_distance(one), distance),
                    table_cell("yes" if one["chosen"] else "", int(one["chosen"])),
                ]
                rows.append(f"<tr>{''.join(cells)}</tr>")
    return note + sortable_table(["Method", "Cell", "Try", "Changes", "Mean distance", "Chosen"], rows)


def _voids(cells: Sequence[CellAggregate]) -> str:
    told = [f"{cell.cell} seed {seed}: {why}".strip() for cell in cells for seed, why in cell.void.items()]
    return "".join(f'<p class="warning">Void, and in no mean: {escape(text)}</p>' for text in told)


def _band(cell: CellAggregate) -> str:
    words = "".join(f"<p>{escape(line.replace('*', ''))}</p>" for line in band_words(cell) if line)
    return section(f"Retrained models: {cell.cell or WHOLE}", words) if words else ""


def _figure(file: str, data: bytes) -> str:
    title = file.removesuffix(".png").replace("-", " ")
    coded = base64.b64encode(data).decode()
    picture = f'<figure><img alt="{escape(title)}" src="data:image/png;base64,{coded}"></figure>'
    return section(title[:1].upper() + title[1:], picture)


def _origin(provenance: Mapping[str, Any]) -> str:
    rows = []
    for found in provenance["environments"]:
        packages = ", ".join(f"{name} {number or 'unknown'}" for name, number in found["packages"].items())
        memory = f"{found['memory'] / 2**30:.0f} GiB" if found.get("memory") else None
        for what, told in (
            ("runs", ", ".join(found["runs"])),
            ("packages", packages),
            ("Python", found["python"]),
            ("platform", found["platform"]),
            ("processors", f"{found['cpus']} {found.get('processor') or ''}".strip()),
            ("memory", memory),
            ("source, SHA-256", found["source"]),
        ):
            rows.append(f'<tr><td>{what}</td><td class="text">{escape(str(told or "–"))}</td></tr>')
    note = "<p class=note>Settings, seeds and digests of every model are in results.json beside this page.</p>"
    return f'<div class="scroll"><table><tbody>{"".join(rows)}</tbody></table></div>{note}'


def _details(title: str, body: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{body}</details>"
