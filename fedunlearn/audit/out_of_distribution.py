"""The share of the forget set whose outputs are out of distribution: farther from the original's than its usual error.

Lambda is the 95 % quantile of the original model's errors on what those who stay hold out, as in `decouple-retain`;
whatever was unlearned by other means is measured by the same. A retrained model has a share of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from fedunlearn.audit.counts import MINIMUM_SAMPLES, add
from fedunlearn.audit.error_histogram import histogram, mean, quantile, share_above
from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.subject import Subject
from fedunlearn.errors import DataError
from fedunlearn.tasks.outputs import answers, displacements, errors

NAME = "out_of_distribution"
USUAL = 0.95


def measure(subject: Subject, generator: object) -> Finding:
    """Histograms: of the forget set's displacements (target), of the original's errors on held-out samples."""
    if subject.before is None:
        raise DataError(f"{NAME} needs the model before unlearning; send it along.")
    samples = subject.forget if subject.role == "target" else subject.held_out
    if len(samples) < MINIMUM_SAMPLES:
        return {}
    original = subject.network(subject.before)
    if subject.role == "remaining":
        return {"errors": histogram(errors(subject.task, original, samples))}
    before = answers(subject.task, original, samples)
    apart = displacements(subject.task, subject.network(subject.model), samples, before)
    return {"displacements": histogram(apart)}


def combine(gathered: Gathered) -> Mapping[str, Value]:
    """The share that is displaced by lambda at least, lambda, and the mean displacement (root mean squares)."""
    usual = add(finding or None for finding in gathered.remaining.values())
    found = add(finding or None for finding in gathered.target.values())
    names = (NAME, f"{NAME}.threshold", f"{NAME}.displacement")
    if usual is None or found is None:
        lacking = "held-out samples at a client that stays" if usual is None else "samples in a forget set"
        return dict.fromkeys(names, Value.refusal(f"{NAME} needs {MINIMUM_SAMPLES} {lacking}; there are fewer."))
    threshold, displaced = quantile(usual["errors"], USUAL), found["displacements"]
    return {
        NAME: Value.rate(share_above(displaced, threshold), sum(displaced)),
        f"{NAME}.threshold": Value.loss(threshold),
        f"{NAME}.displacement": Value.loss(mean(displaced)),
    }
