"""A benchmark's tables as LaTeX, to be put into a document as they are: they need booktabs and graphicx."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from fedunlearn.reports.aggregate import CellAggregate, ModelAggregate
from fedunlearn.reports.benchmark_contest import BandAggregate
from fedunlearn.reports.benchmark_contest_tables import band_label, band_range, in_order, refusals
from fedunlearn.reports.benchmark_measures import BY_KEY
from fedunlearn.reports.document import label_of
from fedunlearn.reports.measures import shown
from fedunlearn.reports.spread import Spread, shown_spread

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",  # \textquotedbl is not in every font
    "±": r"$\pm$",
    "–": "--",
    "—": "---",
    "−": "$-$",
    "×": r"$\times$",
    "…": r"\ldots{}",
    "\n": " ",
}
_SPECIAL = re.compile("|".join(map(re.escape, _ESCAPES)))
COSTS = ("cost.client_epochs", "cost.bytes_up", "cost.bytes_down")


def escape(text: str) -> str:
    """The text as LaTeX prints it, whatever is in it."""
    return _SPECIAL.sub(lambda found: _ESCAPES[found[0]], text)


def latex(name: str, question: str, cells: Sequence[CellAggregate]) -> str:
    """One table a cell, means ± standard deviations over the seeds, and the retrained models' range beside them.

    Costs are means alone: how many bytes they vary by would only make the table too wide to be read.
    """
    comment = f"% {name}: {question}".replace("\n", " ")
    lines = [comment, r"% Needs \usepackage{booktabs,graphicx} before \begin{document}.", ""]
    for cell in cells:
        lines += _table(name, cell) if cell.models else []
    return "\n".join(lines) + "\n"


def _table(name: str, cell: CellAggregate) -> list[str]:
    measures = [BY_KEY[key] for key in cell.distance_over]
    costs = [BY_KEY[key] for key in COSTS if any(one.figures.get(key) for one in cell.models.values())]
    heads = ["Method", "Mean distance", *(measure.label for measure in (*measures, *costs))]
    seeds = len(cell.seeds)
    rows: dict[str, Sequence[str]] = {}
    for model, one in cell.models.items():
        # What training took before the request is nobody's answer to it.
        prices = [None if model == "original" else one.figures.get(cost.key) for cost in costs]
        cells = [shown_spread(one.distance, "share", seeds)]
        cells += [shown_spread(one.figures.get(measure.key), measure.kind, seeds) for measure in measures]
        rows[model] = [
            *cells,
            *("–" if p is None else shown(p.mean, c.kind) for p, c in zip(prices, costs, strict=True)),
        ]
    band = cell.band
    if band is not None:
        ranges = [band_range(band, measure) for measure in (*measures, *costs)]
        rows = in_order(rows, band_label(band), [shown_spread(band.distance, "share"), *ranges])
    best = _best(cell.models, band)
    lines = [r"\begin{table}", r"\centering", r"\footnotesize", r"\setlength{\tabcolsep}{3pt}"]
    lines += [rf"\caption{{{escape(_caption(name, cell))}}}", rf"\label{{tab:{_label(name, cell.cell)}}}"]
    # As wide as the page at most, whatever number of columns there is.
    lines += [r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}", r"\toprule"]
    lines += [" & ".join(_stacked(head) for head in heads) + r" \\", r"\midrule"]
    for model, row in rows.items():
        first, *others = (escape(text) for text in row)
        if model in best:
            first = rf"\textbf{{{first}}}"
        lines.append(" & ".join([escape(label_of(model)), first, *others]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}}"]
    # Below the table: a sentence in it would make it as wide as itself.
    refused = "; ".join(f"{label_of(model)}: {why.rstrip('.')}" for model, why in refusals(cell))
    if refused:
        lines += [r"\par\smallskip\raggedright", f"Cannot serve this request: {escape(refused)}."]
    return [*lines, r"\end{table}", ""]


def _best(models: Mapping[str, ModelAggregate], band: BandAggregate | None) -> set[str]:
    """The rows with the smallest distance, and those that are inside the band of retrained models."""
    known: dict[str, Spread] = {
        name: one.distance
        for name, one in models.items()
        if one.distance is not None and name not in ("original", "retrained")
    }
    least = min((one.mean for one in known.values()), default=0.0)
    return {name for name, one in known.items() if one.mean == least or (band is not None and band.holds(one))}


def _caption(name: str, cell: CellAggregate) -> str:
    where = f"{name}, {cell.cell}" if cell.cell else name
    seeds = f"{len(cell.seeds)} seed{'s' if len(cell.seeds) != 1 else ''}"
    text = (
        f"{where}: mean ± standard deviation over {seeds}, of costs the mean; the good value is the retrained model's."
    )
    bold = " Bold: the smallest distance"
    return text + (f"{bold}, and what is within the range of retrained models." if cell.band else f"{bold}.")


def _label(name: str, cell: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{name}-{cell}" if cell else name).strip("-")


def _stacked(head: str) -> str:
    """A head one word a line: figures are narrower than what they are called."""
    words = [escape(word) for word in head.split(" ")]
    return words[0] if len(words) == 1 else r"\shortstack{" + r"\\".join(words) + "}"
