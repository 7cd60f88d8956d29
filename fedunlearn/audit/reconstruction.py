"""Completed images against the true ones, on the forget set, on what is retained, and on unseen images; and the gap.

A retrained model completes images that it never saw fairly well, since it knows what images are like: the good value
is the retrained model's, not the worst one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedunlearn.audit.counts import MINIMUM_SAMPLES, add
from fedunlearn.audit.error import peak_signal_to_noise
from fedunlearn.audit.image_quality import count, qualities
from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.subject import Subject
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import DataError

NAME, GAP = "reconstruction", "reconstruction_gap"
GROUPS = ("forget", "retain", "unseen")
FIGURES = ("mse", "psnr", "ssim")
RETRAINED = "retrained-"


def measure(subject: Subject, generator: object) -> Finding:
    """Sums over one's images: a target's forget set, what is retained, or the server's unseen ones."""
    return count(qualities(subject.task, subject.network(subject.model), _group(subject)))


def measure_both(subject: Subject, generator: object) -> Finding:
    """The same of the model and of the retrained one."""
    if subject.retrained is None:
        raise DataError("the gap needs a retrained model; send one along.")
    other = count(qualities(subject.task, subject.network(subject.retrained), _group(subject)))
    return {**measure(subject, generator), **{f"{RETRAINED}{name}": value for name, value in other.items()}}


def combine(gathered: Gathered) -> Mapping[str, Value]:
    """MSE, PSNR and SSIM of each group; the first value is the forget set's MSE."""
    values = {}
    for group, counts in _counts(gathered).items():
        found = figures(counts)
        for figure in FIGURES:
            refused = Value.refusal(_why(NAME, group))
            values[f"{NAME}.{group}_{figure}"] = refused if found is None else _value(figure, found[figure])
    return {NAME: values[f"{NAME}.forget_mse"], **values}


def combine_both(gathered: Gathered) -> Mapping[str, Value]:
    """PSNR and SSIM less the retrained model's on each group, and the mean size of the gaps in decibels."""
    values, sizes = {}, []
    for group, counts in _counts(gathered).items():
        one = figures(counts)
        other = figures(_of_retrained(counts))
        for figure in ("psnr", "ssim"):
            name = f"{GAP}.{group}_{figure}"
            if one is None or other is None:
                values[name] = Value.refusal(_why(GAP, group))
            else:
                values[name] = Value(one[figure] - other[figure])
        if one is not None and other is not None:
            sizes.append(abs(one["psnr"] - other["psnr"]))
    whole = Value(sum(sizes) / len(sizes)) if len(sizes) == len(GROUPS) else Value.refusal(_why(GAP, "every group"))
    return {GAP: whole, **values}


def figures(counts: Mapping[str, Any] | None) -> dict[str, float] | None:
    """MSE, PSNR in decibels (of the mean MSE, values from 0 to 1) and SSIM of (summed) sums; None for none."""
    if not counts or not counts.get("samples"):
        return None
    square = counts["square-sum"] / counts["samples"]
    return {
        "mse": square,
        "psnr": peak_signal_to_noise(square),
        "ssim": counts["similarity-sum"] / counts["samples"],
    }


def _group(subject: Subject) -> Samples:
    return {"target": subject.forget, "remaining": subject.retained, "server": subject.held_out}[subject.role]


def _counts(gathered: Gathered) -> dict[str, Mapping[str, Any] | None]:
    return {
        "forget": add(finding or None for finding in gathered.target.values()),
        "retain": add(finding or None for finding in gathered.remaining.values()),
        "unseen": gathered.server or None,
    }


def _of_retrained(counts: Mapping[str, Any] | None) -> dict[str, Any]:
    return {n.removeprefix(RETRAINED): v for n, v in (counts or {}).items() if n.startswith(RETRAINED)}


def _value(figure: str, number: float) -> Value:
    return Value.loss(number) if figure == "mse" else Value(number)


def _why(name: str, group: str) -> str:
    return f"{name} needs {MINIMUM_SAMPLES} images of {group} at one place; there are fewer."
