"""Agreement with the retrained model, answer by answer: activation distance, divergence, completeness.

The divergence is Jensen's and Shannon's (Lin 1991) with the natural logarithm, so from 0 to ln 2. A public program
averages the reversed divergences over samples *and* classes, which is 1.4, 6.5 and 63 times smaller for 2, 10 and 100
classes: its figures cannot be compared with these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fedunlearn.audit.checks import same_length
from fedunlearn.audit.counts import MINIMUM_SAMPLES, add
from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.subject import Subject
from fedunlearn.errors import DataError

NAME = "agreement"
DETAILS = (f"{NAME}.activation_distance", f"{NAME}.divergence", f"{NAME}.on_test_set")
TOO_FEW = f"{NAME} needs {MINIMUM_SAMPLES} samples; there are fewer."


@dataclass(frozen=True)
class Agreement:
    """How alike two models answer the same samples.

    Attributes:
        activation_distance: mean Euclidean distance of the two probability vectors, 0 to sqrt 2.
        divergence: mean Jensen-Shannon divergence in nats, 0 to ln 2.
        completeness: share of samples that both give the same class, 0 to 1.
        samples: how many samples there were.
    """

    activation_distance: float
    divergence: float
    completeness: float
    samples: int


def distances(logits: Tensor, reference: Tensor) -> Tensor:
    """Euclidean distance of softmax(logits) and softmax(reference), of each sample, (N,)."""
    same_length(logits=logits, reference_logits=reference)
    difference = logits.detach().double().softmax(dim=1) - reference.detach().double().softmax(dim=1)
    return difference.norm(dim=1)


def divergences(logits: Tensor, reference: Tensor) -> Tensor:
    """Jensen-Shannon divergence of the two answers, of each sample in nats, (N,).

    1/2 KL(p || m) + 1/2 KL(q || m) with m the mean of p and q, summed over the classes.

    Args:
        logits: N x K of one model.
        reference: N x K of the other.
    """
    same_length(logits=logits, reference_logits=reference)
    log_p, log_q = (each.detach().double().log_softmax(dim=1) for each in (logits, reference))
    # In logarithms, so that a probability that vanishes adds 0 and not NaN.
    log_m = log_p.logaddexp(log_q) - math.log(2.0)
    halves = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    return 0.5 * halves.sum(dim=1).clamp_min(0.0)


def count(logits: Tensor, reference: Tensor, minimum: int = MINIMUM_SAMPLES) -> dict[str, float | int] | None:
    """Sums of both distances, equal answers and samples; None (withheld) for fewer than `minimum` samples."""
    samples = same_length(logits=logits, reference_logits=reference)
    if samples < max(minimum, 1):
        return None
    return {
        "distance-sum": float(distances(logits, reference).sum()),
        "divergence-sum": float(divergences(logits, reference).sum()),
        "agreed": int((logits.argmax(dim=1) == reference.argmax(dim=1)).sum()),
        "samples": samples,
    }


def combine(counts: Mapping[str, float | int] | None) -> Agreement | None:
    """The agreement of the (summed) counts; None where they were withheld or empty."""
    if counts is None or not counts["samples"]:
        return None
    samples = int(counts["samples"])
    return Agreement(
        counts["distance-sum"] / samples, counts["divergence-sum"] / samples, counts["agreed"] / samples, samples
    )


def measure(subject: Subject, generator: torch.Generator) -> Finding:
    """Sums over the forget set (target) or the test set (server) against the retrained model."""
    if subject.retrained is None:
        raise DataError("agreement needs a retrained model to agree with; send one along.")
    samples = subject.held_out if subject.role == "server" else subject.forget
    answers, reference = (subject.evaluate(state, samples).logits for state in (subject.model, subject.retrained))
    return count(answers, reference) or {}


def combine_findings(gathered: Gathered) -> Mapping[str, Value]:
    """Completeness, activation distance and divergence on the forget set, and completeness on the test set."""
    on_forget_set = combine(add(finding for finding in gathered.target.values() if finding))
    on_test_set = combine(gathered.server or None)  # type: ignore[arg-type]
    values = {name: Value.refusal(TOO_FEW) for name in (NAME, *DETAILS)}
    if on_forget_set is not None:
        values[NAME] = Value.rate(on_forget_set.completeness, on_forget_set.samples)
        values[f"{NAME}.activation_distance"] = Value(on_forget_set.activation_distance)
        values[f"{NAME}.divergence"] = Value(on_forget_set.divergence)
    if on_test_set is not None:
        values[f"{NAME}.on_test_set"] = Value.rate(on_test_set.completeness, on_test_set.samples)
    return values
