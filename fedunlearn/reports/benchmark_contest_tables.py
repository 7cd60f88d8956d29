"""What a contest adds to the Markdown of a benchmark: budgets, refusals, the band, and the tries of the tuning."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fedunlearn.reports.aggregate import CellAggregate
from fedunlearn.reports.benchmark_contest import BandAggregate, ContenderAggregate
from fedunlearn.reports.document import label_of
from fedunlearn.reports.measures import Measure, shown
from fedunlearn.reports.spread import Spread, shown_spread

LIMITS = {"client_epochs": ("client epochs", "count"), "bytes": ("bytes", "bytes")}


def band_label(band: BandAggregate) -> str:
    """How the row of the retrained models is called."""
    return f"Retrained, {band.size} models"


def band_range(band: BandAggregate, measure: Measure) -> str:
    """ "87.1% to 88.9%": least and most of the retrained models; an en dash where the figure is unknown."""
    if measure.key not in band.figures or measure.role == "cost":
        return "–"
    least, most = band.figures[measure.key]
    return f"{shown(least, measure.kind)} to {shown(most, measure.kind)}"


def refusals(cell: CellAggregate) -> list[tuple[str, str]]:
    """Contender and why it cannot serve the cell's request, each reason once."""
    found = []
    for name, one in cell.contenders.items():
        reasons: dict[str, list[int]] = {}
        for seed, why in one.cannot.items():
            reasons.setdefault(why, []).append(seed)
        for why, seeds in reasons.items():
            some = len(seeds) < len(cell.seeds) + len(cell.void)
            found.append((name, f"{why} (seeds {', '.join(map(str, seeds))})" if some else why))
    return found


def band_words(cell: CellAggregate) -> list[str]:
    """What the band is, and which models are inside of it; nothing where there is none."""
    band = cell.band
    if band is None or band.distance is None:
        return []
    inside = [
        label_of(name)
        for name, one in cell.models.items()
        if name not in ("original", "retrained") and band.holds(one.distance)
    ]
    return [
        f"*{band_label(band)}*: the one that distances are measured to and {band.size - 1} from other seeds; least and "
        f"most of them, as means over the seeds of the table. The others are {_share(band.distance)} from it, "
        f"{shown(band.distance.most, 'share')} at most. Within that: {', '.join(inside) or 'no other model'}.",
        "",
    ]


def contest_lines(cell: CellAggregate) -> list[str]:
    """Budgets and refusals of a cell as Markdown; nothing where it is no contest."""
    if not cell.contenders:
        return []
    lines = ["### Budget", "", _budget_words(cell), ""]
    lines += ["| method | kind | rounds | spent | budget | settings |", "|---|---|---:|---:|---:|---|"]
    lines += [f"| {' | '.join([label_of(name), *_row(one)])} |" for name, one in cell.contenders.items()]
    refused = [f"- {label_of(name)} cannot: {_plain(why)}" for name, why in refusals(cell)]
    return [*lines, "", *refused, *([""] if refused else []), *_bracket(cell)]


def _bracket(cell: CellAggregate) -> list[str]:
    """Who is farther from retraining than fine-tuning is: these two should bracket everything."""
    tuned = cell.models["fine-tuned"].distance if "fine-tuned" in cell.models else None
    if tuned is None:
        return []
    distances = {name: one.distance for name, one in cell.models.items() if name in cell.contenders}
    outside = [label_of(name) for name, one in distances.items() if one is not None and one.mean > tuned.mean]
    return [f"Farther from retrained than fine-tuning only: {', '.join(outside)}.", ""] if outside else []


def allowed_words(one: ContenderAggregate) -> str:
    """ "3.75", "3.75, over on seeds 1, 2", "unlimited" or, for one that did not run, "cannot"."""
    if one.spent is None and one.cannot:
        return "cannot"
    if one.allowed is None:
        return "unlimited"
    text = shown(one.allowed, LIMITS[one.of][1]) if one.of == "bytes" else f"{one.allowed:g}"
    if one.over:
        text += f", **over** on seed{'s' if len(one.over) > 1 else ''} {', '.join(map(str, one.over))}"
        text += " (rounds of its own)" if one.own_rounds else ""
    return text


def tuning_lines(tuning: Mapping[str, Any]) -> list[str]:
    """The tries as Markdown, a table a cell.

    Args:
        tuning: "tries", "seeds" and "cells": cell -> contender -> tries, as `fedunlearn.contest.tuning.as_json` has it.
    """
    seeds = ", ".join(str(seed) for seed in tuning["seeds"])
    lines = [
        "## Tuning",
        "",
        f"Up to {tuning['tries']} tries a method on validation requests (seeds {seeds}), of which nothing above is "
        "made; the first is the method as it stands. What has the smallest mean distance to retrained is chosen. A "
        "method without a space has one try, which was not measured.",
        "",
    ]
    for cell, contenders in tuning["cells"].items():
        lines += [f"### Tries: {cell}", ""] if cell else []
        lines += ["| method | try | changes | mean distance | chosen |", "|---|---:|---|---:|---|"]
        for name, tries in contenders.items():
            for one in tries:
                cells = [label_of(name), str(one["number"]), try_changes(one, len(tries)), try_distance(one)]
                lines.append(f"| {' | '.join([*cells, 'yes' if one['chosen'] else ''])} |")
        lines.append("")
    return lines


def try_changes(one: Mapping[str, Any], several: int) -> str:
    """What a try changes, for people."""
    if one["changes"]:
        return ", ".join(f"{name} = {json.dumps(setting)}" for name, setting in one["changes"].items())
    return "as it stands" if several > 1 else "as it stands (no space)"


def try_distance(one: Mapping[str, Any]) -> str:
    """A try's distance, or why there is none."""
    if one["distance"] is not None:
        return shown_spread(Spread(**one["distance"]), "share")
    return f"cannot: {_plain(next(iter(one['cannot'].values())))}" if one["cannot"] else "–"


def _budget_words(cell: CellAggregate) -> str:
    limited = [one for one in cell.contenders.values() if one.allowed is not None]
    if not limited:
        return "No budget: each method spends what its settings say."
    what, kind = LIMITS[limited[0].of]
    text = shown(limited[0].allowed, kind) if kind == "bytes" else f"{limited[0].allowed:g}"
    return (
        f"Each method may spend {text} {what if kind != 'bytes' else 'both ways'}: as many rounds as fit, one at "
        "least. Queries are not client epochs; they are in bytes and in what clients computed."
    )


def _row(one: ContenderAggregate) -> list[str]:
    settings = {
        name: setting
        for name, setting in one.settings.items()
        if name not in ("rounds",) and setting not in (None, {}) and (name, setting) != ("ratio", "auto")
    }
    return [
        one.kind,
        shown_spread(one.rounds, "count"),
        shown_spread(one.spent, LIMITS[one.of][1]),
        allowed_words(one),
        f"`{json.dumps(settings, ensure_ascii=False)}`",
    ]


def _share(spread: Spread) -> str:
    return shown_spread(spread, "share")


def _plain(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def in_order(rows: Mapping[str, Sequence[str]], label: str, cells: Sequence[str]) -> dict[str, Sequence[str]]:
    """The rows with one more below that of "retrained", or at the end."""
    found: dict[str, Sequence[str]] = {}
    for name, row in rows.items():
        found[name] = row
        if name == "retrained":
            found[label] = cells
    return found if "retrained" in rows else {**found, label: cells}
