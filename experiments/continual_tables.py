"""The tables of the experiment on continual forgetting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

TASKS = ("10-2", "8-2", "6-2", "4-2")
TITLES = {
    "full": "A quarter of the training images",
    "four": "Four images of each class, over all clients",
    "missing": "A quarter of the images, one remaining class without any",
}


def tables(
    cells: Sequence[Mapping[str, Any]], settings: Iterable[str], methods: Sequence[str], seeds: Sequence[int]
) -> str:
    """Markdown: a table for each setting, means over the seeds, accuracies in percent."""
    lines = ["# Continual forgetting: four requests of two classes each", ""]
    lines += [*_LEGEND, ""]
    originals = {cell["seed"]: cell["original"][0] for cell in cells if cell["seed"] in seeds}
    if originals:
        lines += [f"Original: {100 * _mean(originals.values()):.1f} % over all classes.", ""]
    for setting in settings:
        lines += [f"## {TITLES[setting]}", "", _HEAD, _RULE]
        for method in methods:
            where = "full" if method == "retrain" else setting
            found = [c for c in cells if (c["setting"], c["method"]) == (where, method) and c["seed"] in seeds]
            if found:
                lines.append(_row(method, found))
        lines.append("")
    return "\n".join(lines)


_LEGEND = (
    "Each cell: H / Acc_r / Acc_f / Acc_o (/ Acc_m), in percent, means over the seeds whose four requests were served.",
    "The last columns, over all requests: bytes both ways, and as a share of what the same training messages would",
    "carry dense; seconds; client epochs; blocks whose adapters are zero, a request on average; and the accuracy on",
    "all forgotten classes of a new output layer on the frozen rest of the last model (erasure probe).",
)
_HEAD = (
    f"| method | seeds | {' | '.join(TASKS)} | mean H | bytes | of dense | seconds | client epochs | zero groups "
    "| probe |"
)
_RULE = f"|---|---|{'---|' * (len(TASKS) + 7)}"


def _row(method: str, found: Sequence[Mapping[str, Any]]) -> str:
    whole = [cell for cell in found if len(cell["requests"]) == len(TASKS)]
    if not whole:
        return f"| {method} | 0 of {len(found)} | {found[0]['refused']} {'|' * (len(TASKS) + 7)}"
    parts = [_accuracies([cell["requests"][task] for cell in whole]) for task in range(len(TASKS))]
    requests = [request for cell in whole for request in cell["requests"]]
    groups = [request["zero_groups"] for request in requests if request["zero_groups"] is not None]
    share = sum(request["bytes"] for request in requests) / sum(request["dense_bytes"] for request in requests)
    each = len(whole)
    served = f"{each}" if each == len(found) else f"{each} of {len(found)}"
    cost = [
        f"{_mean(request['h'] for request in requests) * 100:.1f}",
        f"{sum(request['bytes'] for request in requests) / each:,.0f}",
        f"{100 * share:.1f} %",
        f"{sum(request['seconds'] for request in requests) / each:.0f}",
        f"{sum(request['client_epochs'] for request in requests) / each:.1f}",
        f"{_mean(groups):.1f} of 4" if groups else "–",
        f"{100 * _mean(cell['probe']['probed'] for cell in whole):.1f}",
    ]
    return f"| {method} | {served} | {' | '.join([*parts, *cost])} |"


def _accuracies(requests: Sequence[Mapping[str, Any]]) -> str:
    shown = []
    for name in ("h", "remaining", "forgotten", "old", "missing"):
        values = [request[name] for request in requests if request[name] is not None]
        if values:
            shown.append(f"{100 * _mean(values):.1f}")
        elif name == "old":
            shown.append("–")
    return " / ".join(shown)


def _mean(values: Iterable[float]) -> float:
    several = list(values)
    return sum(several) / len(several)
