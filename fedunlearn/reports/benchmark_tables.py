"""A benchmark's aggregates as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedunlearn.reports.aggregate import CellAggregate, Figures, ModelAggregate
from fedunlearn.reports.benchmark_contest import BandAggregate
from fedunlearn.reports.benchmark_contest_tables import (
    band_label,
    band_range,
    band_words,
    contest_lines,
    in_order,
    tuning_lines,
)
from fedunlearn.reports.benchmark_measures import BY_KEY, COST_SHARES, FIGURES
from fedunlearn.reports.benchmark_sequence import sequence_lines
from fedunlearn.reports.document import label_of
from fedunlearn.reports.measures import PARTS
from fedunlearn.reports.provenance import run_name
from fedunlearn.reports.spread import Spread, shown_spread
from fedunlearn.reports.table import lines_by_model


def markdown(
    name: str,
    question: str,
    cells: Sequence[CellAggregate],
    provenance: Mapping[str, Any],
    figures: Mapping[str, Sequence[str]],
    tuning: Mapping[str, Any] | None = None,
) -> str:
    """The whole benchmark as one Markdown page.

    Args:
        figures: cell -> pictures, as paths from the page.
        tuning: the tries, as `results.json` has them; None: nothing was tuned.
    """
    lines = [f"# {name}", ""]
    if question:
        lines += [question, ""]
    lines += [
        "Rows are models, figures are means ± standard deviations of the sample over the seeds. A model is "
        "as good as its distance to *Retrained* is small; being better than it is not asked.",
        "",
    ]
    lines += sequence_lines(cells)
    for cell in cells:
        lines += _cell(cell, figures.get(cell.cell, ()))
    lines += tuning_lines(tuning) if tuning is not None else []
    return "\n".join([*lines, *_provenance(provenance)]) + "\n"


def _cell(cell: CellAggregate, figures: Sequence[str]) -> list[str]:
    lines = [f"## {cell.cell or 'Results'}", ""]
    lines += [f"**Void: seed {seed}.** {why}" for seed, why in cell.void.items()]
    lines += [""] if cell.void else []
    if not cell.models:
        return [*lines, "No seed is left to be tabulated.", ""]
    seeds = ", ".join(str(seed) for seed in cell.seeds)
    lines += [f"Seeds: {seeds}{' (void ones left out)' if cell.void else ''}.", ""]
    lines += [*_figures(cell.models, len(cell.seeds), ("ability", "memory"), cell.band), ""]
    lines += band_words(cell)
    lines += ["### Distance to retrained", "", _explained(cell), ""]
    lines += [*_distances(cell.models, len(cell.seeds), cell.band), ""]
    lines += ["### Cost", "", *_costs(cell.models, len(cell.seeds)), ""]
    lines += contest_lines(cell)
    for rounds, models in cell.after.items():
        lines += [f"### After {rounds} further ordinary round{'s' if rounds != 1 else ''}", ""]
        lines += [*_figures(models, len(cell.seeds), ("ability", "memory")), ""]
        lines += [*_distances(models, len(cell.seeds)), ""]
    for path in figures:
        lines += [f"![{path.rsplit('/', 1)[-1].removesuffix('.png')}]({path})", ""]
    return lines


def _explained(cell: CellAggregate) -> str:
    over = ", ".join(BY_KEY[key].label.lower() for key in cell.distance_over)
    return (
        f"*Mean distance*: mean size of the differences to the retrained model in {over}. *Way*: (model − "
        "original) / (retrained − original), 0 is as before and 1 as retrained; seeds in which original and "
        "retrained hardly differ are left out of it."
    )


def _figures(
    models: Mapping[str, ModelAggregate], seeds: int, roles: tuple[str, ...], band: BandAggregate | None = None
) -> list[str]:
    measures = [
        measure
        for measure in FIGURES
        if measure.role in roles and any(one.figures.get(measure.key) for one in models.values())
    ]
    rows: dict[str, Sequence[str]] = {
        name: [shown_spread(one.figures.get(measure.key), measure.kind, seeds) for measure in measures]
        for name, one in models.items()
    }
    if band is not None:
        rows = in_order(rows, band_label(band), [band_range(band, measure) for measure in measures])
    return lines_by_model([measure.label for measure in measures], rows)


def _distances(models: Mapping[str, ModelAggregate], seeds: int, band: BandAggregate | None = None) -> list[str]:
    parts = {f"forget.{part}.loss": label for part, (label, _) in PARTS.items()}
    losses = [key for key in parts if any(one.losses.get(key) for one in models.values())]
    ways = [key for key in _keys(one.way for one in models.values())]
    heads = ["Mean distance", *(f"{parts[key]}: loss, distance" for key in losses)]
    heads += [f"{BY_KEY[key].label}: way" for key in ways]
    rows: dict[str, Sequence[str]] = {}
    for name, one in models.items():
        cells = [shown_spread(one.distance, "share", seeds)]
        cells += [shown_spread(one.losses.get(key), "score", seeds) for key in losses]
        cells += [_way(one.way.get(key), seeds) for key in ways]
        rows[name] = cells
    if band is not None:
        cells = [shown_spread(band.distance, "share"), *["–"] * (len(heads) - 1)]
        rows = in_order(rows, band_label(band), cells)
    return lines_by_model(heads, rows)


def _costs(models: Mapping[str, ModelAggregate], seeds: int) -> list[str]:
    measures = [
        measure
        for measure in FIGURES
        if measure.role == "cost" and any(one.figures.get(measure.key) for one in models.values())
    ]
    shares = _keys(one.cost for one in models.values())
    heads = [*(m.label for m in measures), *(f"{COST_SHARES[key]} of retrained's" for key in shares)]
    rows = {}
    for name, one in models.items():
        if name == "original":  # what was spent before the request is nobody's answer to it
            continue
        cells = [shown_spread(one.figures.get(m.key), m.kind, seeds) for m in measures]
        cells += [_fraction(one.cost.get(key)) for key in shares]
        rows[name] = cells
    return lines_by_model(heads, rows)


def _keys(several: Iterable[Figures]) -> list[str]:
    """The keys that at least one has a value for, in their order."""
    found: dict[str, None] = {}
    for figures in several:
        found |= {key: None for key, one in figures.items() if one is not None}
    order = [*BY_KEY, *COST_SHARES]
    return sorted(found, key=order.index)


def _way(way: Spread | None, seeds: int) -> str:
    return "–" if way is None else shown_spread(way, "score", seeds)


def _fraction(share: Spread | None) -> str:
    """ "1/20.0" for 0.05; the worst seed is no secret, it is in the JSON."""
    if share is None:
        return "–"
    return f"1/{1 / share.mean:.1f}" if 0 < share.mean < 1 else f"{share.mean:.2f}"


def _provenance(provenance: Mapping[str, Any]) -> list[str]:
    lines = ["## Provenance", "", f"Written {provenance['date']}."]
    for found in provenance["environments"]:
        packages = ", ".join(f"{name} {number or 'unknown'}" for name, number in found["packages"].items())
        runs = found["runs"]
        which = "All runs" if len(runs) == len(provenance["runs"]) else f"Runs {', '.join(runs)}"
        lines += [
            "",
            f"{which}: Python {found['python']} on {found['platform']}, {_hardware(found)}; {packages}; "
            f"fedunlearn's source is {found['source'][:12]} (SHA-256 over its files).",
        ]
    whole = (("Federation", "settings"), ("Method", "method"), ("Controls", "controls"), ("Methods", "methods"))
    for title, key in whole:
        lines += _settings(title, key, provenance["runs"])
    lines += ["", "Models, by the first 12 digits of their digests:", ""]
    names: dict[str, None] = {}
    for run in provenance["runs"]:
        names |= dict.fromkeys(run["digests"])
    lines += [f"| run | {' | '.join(label_of(name) for name in names)} |", f"|---|{'---|' * len(names)}"]
    for run in provenance["runs"]:
        digests = ((run["digests"].get(name) or "–")[:12] for name in names)
        lines.append(f"| {run_name(run)} | {' | '.join(digests)} |")
    return lines


def _hardware(found: Mapping[str, Any]) -> str:
    """ "2 CPUs (AMD EPYC 7763), 8 GB of memory", as much of it as is known."""
    processor, memory = found.get("processor"), found.get("memory")
    text = f"{found['cpus']} CPUs" + (f" ({processor})" if processor else "")
    return text + (f", {memory / 2**30:.0f} GiB of memory" if memory else "")


def _settings(title: str, key: str, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings of each cell once, seed and what differs from seed to seed apart."""
    by_cell: dict[str, Any] = {}
    for run in runs:
        found = run.get(key)
        if key == "settings" and found:
            found = {name: setting for name, setting in found.items() if name not in ("seed", "timeout", "engine")}
        if key == "method" and found:
            asked = found.get("settings") or {}
            # The models that it started from are of one run, and among the digests.
            own = {name: setting for name, setting in asked.items() if name not in ("base", "start")}
            found = {"method": found.get("name"), **own}
        if found:
            by_cell.setdefault(str(run["cell"]), found)
    texts = {cell: json.dumps(found, ensure_ascii=False) for cell, found in by_cell.items()}
    if len(set(texts.values())) == 1:
        return ["", f"{title}: `{next(iter(texts.values()))}`"]
    return [line for cell, text in texts.items() for line in ("", f"{title}, {cell}: `{text}`")]
