"""Resurfacing: does what was forgotten come back when ordinary training goes on without it?

A model in which the forgotten samples were only covered up shows them again after some rounds on data like them;
a retrained model that goes on for as many rounds is the reference, because it learns from the others, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedunlearn.audit.counts import MINIMUM_SAMPLES, add
from fedunlearn.audit.distance import gap
from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.subject import ModelState, Subject
from fedunlearn.errors import DataError

NAME = "resurfacing"


@dataclass(frozen=True)
class Resurfacing:
    """What further ordinary rounds did to one figure.

    Attributes:
        unlearned: the unlearned model's value after them less that before them.
        retrained: the same of the retrained model.
        excess: the first less the second; None where one of the four values is unknown.
    """

    unlearned: float | None
    retrained: float | None
    excess: float | None


def resurfacing(
    before: Mapping[str, Mapping[str, float | None]],
    after: Mapping[str, Mapping[str, float | None]],
    names: Sequence[str],
) -> dict[str, Resurfacing]:
    """The change of each figure of `names` over the further rounds, of the unlearned and the retrained model.

    Args:
        before: "unlearned" and "retrained" -> figure -> value.
        after: the same, once the further rounds are done.
    """
    found = {}
    for name in names:
        changes = [
            gap(after.get(kind, {}).get(name), before.get(kind, {}).get(name)) for kind in ("unlearned", "retrained")
        ]
        found[name] = Resurfacing(changes[0], changes[1], gap(changes[0], changes[1]))
    return found


def mean_of(updates: Sequence[ModelState]) -> dict[str, Tensor]:
    """The plain average of several models: what one round makes of them when all clients weigh the same."""
    first = updates[0]
    return {
        name: torch.stack([one[name].double() for one in updates]).mean(dim=0).to(tensor.dtype)
        for name, tensor in first.items()
    }


def measure(subject: Subject, generator: torch.Generator) -> Finding:
    """Right answers and losses on the forget set, before and after one ordinary round without it."""
    if not subject.updates:
        raise DataError("resurfacing needs the remaining clients' updates of one round; send them along.")
    samples = subject.forget
    if len(samples) < MINIMUM_SAMPLES:
        return {}
    now = subject.evaluate(subject.model, samples)
    later = subject.evaluate(mean_of(subject.updates), samples)
    found: dict[str, int | float] = {
        "samples": len(samples),
        "loss_now": float(now.losses.double().sum()),
        "loss_later": float(later.losses.double().sum()),
    }
    if now.scores is not None:
        found["now"] = int((now.predictions == samples.labels).sum())
        found["later"] = int((later.predictions == samples.labels).sum())
    return found


def combine(gathered: Gathered) -> Mapping[str, Value]:
    """Accuracy on the forget set that one round brings back, and the loss that it takes off; either may be negative."""
    found = add(finding for finding in gathered.target.values() if finding)
    if found is None:
        why = f"{NAME} needs {MINIMUM_SAMPLES} samples in the forget set of a target; there are fewer."
        return dict.fromkeys((NAME, f"{NAME}.loss"), Value.refusal(why))
    loss = Value((found["loss_now"] - found["loss_later"]) / found["samples"])
    if "now" not in found:
        why = f"{NAME} is a rise of the accuracy, and the task has none; {NAME}.loss is its loss."
        return {NAME: Value.refusal(why), f"{NAME}.loss": loss}
    return {
        NAME: Value((found["later"] - found["now"]) / found["samples"]),
        f"{NAME}.loss": loss,
    }
