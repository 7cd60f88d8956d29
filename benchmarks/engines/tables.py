"""The tables and plots of the engine benchmark: ratios first."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, floor, log10
from pathlib import Path
from typing import Any

from arithmetic import per_message, ratios

SUBJECTS = ("fedunlearn, inline", "fedunlearn, 2 workers")


def write_tables(document: Mapping[str, Any], folder: Path) -> None:
    """Write results.md and rounds.png beside results.json."""
    lines = [
        "# Engines at the same jobs",
        "",
        "Seconds a round: the median over processes (contenders take turns) of the median round. A ratio above 1 means",
        "that fedunlearn is quicker; memory is the proportional set size of all processes, start-up runs from the end",
        "of the imports to the end of the first round.",
        "",
    ]
    for name, found in document["jobs"].items():
        if "summary" in found:
            lines += _job(name, found)
    (folder / "results.md").write_text("\n".join(lines), encoding="utf-8")
    _plot(document, folder / "rounds.png")


def _job(name: str, found: Mapping[str, Any]) -> list[str]:
    summaries = found["summary"]
    clients = found["job"]["sampled"]
    subjects = [subject for subject in SUBJECTS if subject in summaries]
    heads = [f"ratio to {subject.removeprefix('fedunlearn, ')}" for subject in subjects]
    compared = {subject: ratios(summaries, subject) for subject in subjects}
    lines = [
        f"## {name}",
        "",
        _machine(found["environment"]),
        "",
        f"| | {' | '.join(heads)} | round, s | least - most, s | ms a message | start-up, s | peak, MB |",
        "|---|" + "---:|" * (len(heads) + 5),
    ]
    for contender, figures in summaries.items():
        cells = [_ratio(compared[subject].get(contender)) for subject in subjects]
        lines.append(
            f"| {contender} | {' | '.join(cells)} | {figures['round']:.4g} | {figures['least']:.4g} - "
            f"{figures['most']:.4g} | {per_message(figures['round'], clients):.3g} | {figures['start_up']:.3g} "
            f"| {figures['peak'] / 1e6:.0f} |"
        )
    lines += ["", *(f"Left out: {contender}: {why}." for contender, why in found["left_out"].items()), ""]
    return lines


def _machine(found: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items() if version)
    processor = f" ({found['processor']})" if found.get("processor") else ""
    return f"{found['cpus']} cores{processor}, {found['platform']}, Python {found['python']}; {packages}."


def _ratio(value: float | None) -> str:
    return "1" if value is None else f"{value:.3g}"


def _plot(document: Mapping[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter

    jobs = {name: found["summary"] for name, found in document["jobs"].items() if "summary" in found}
    if not jobs:
        return
    rows = (len(jobs) + 1) // 2
    figure, axes = pyplot.subplots(rows, 2, figsize=(13, 2.6 * rows), squeeze=False)
    for axis in axes.flat[len(jobs) :]:
        axis.remove()
    for axis, (name, summaries) in zip(axes.flat, jobs.items(), strict=False):
        names = list(summaries)[::-1]
        colours = [_colour(one) for one in names]
        seconds = [summaries[one]["round"] for one in names]
        axis.barh(names, seconds, color=colours)
        axis.set_xscale("log")
        # Whole powers of ten: bars of one job begin at the same kind of place, and labels do not overlap.
        axis.set_xlim(10 ** floor(log10(min(seconds))), 10 ** ceil(log10(max(seconds))))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_title(name, fontsize=10, loc="left")
        axis.set_xlabel("seconds a round (log)", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _colour(name: str) -> str:
    if name.startswith("fedunlearn"):
        return "#2b6cb0"
    return "#a0aec0" if name.startswith("limit") else "#dd6b20"
