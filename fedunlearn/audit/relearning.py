"""Relearning, measured at the target: it trains a copy on its forget set, and only a number of steps leaves it."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from fedunlearn.audit.counts import total_of
from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.relearn import relearn_steps
from fedunlearn.audit.subject import Subject
from fedunlearn.errors import DataError

NAME = "relearning"
SLACK = 1.1
"""Relearned is what has the original's loss again, or this many times it."""
MOST_SAMPLES, MOST_EPOCHS = 500, 5
MINIMUM_LOSS = 0.01
"""A lower loss of the original counts as this one: hunting the last hundredth says nothing about forgetting."""


def measure(subject: Subject, generator: torch.Generator) -> Finding:
    """Steps until the loss on the forget set (500 samples of it at most) is that of the model before.

    A model that does not come there in five passes is said to take as many steps as these have.
    """
    if subject.before is None:
        raise DataError("relearning needs the model before unlearning; send it along.")
    samples = subject.forget.some(MOST_SAMPLES, generator)
    if not len(samples):
        return {}
    known = max(MINIMUM_LOSS, float(subject.evaluate(subject.before, samples).losses.double().mean()))
    batches = -(-len(samples) // subject.training.batch_size)
    steps = relearn_steps(
        subject.task,
        subject.network(subject.model),
        samples,
        subject.training,
        SLACK * known,
        MOST_EPOCHS,
        generator,
        figure="loss",
    )
    return {
        "steps": MOST_EPOCHS * batches if steps is None else steps,
        "reached": int(steps is not None),
        "epoch": batches,
    }


def combine(gathered: Gathered) -> Mapping[str, Value]:
    """Steps and passes, averaged over the targets, and the share of these that came there."""
    findings = [finding for finding in gathered.target.values() if finding]
    names = (NAME, f"{NAME}.passes", f"{NAME}.reached")
    if not findings:
        return dict.fromkeys(names, Value.refusal(f"{NAME} needs a target that holds its forget set; none answered."))
    number = len(findings)
    passes = [total_of([finding], "steps") / total_of([finding], "epoch") for finding in findings]
    return {
        NAME: Value(total_of(findings, "steps") / number),
        f"{NAME}.passes": Value(sum(passes) / number),
        f"{NAME}.reached": Value(total_of(findings, "reached") / number),
    }
