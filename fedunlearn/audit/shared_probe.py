"""A linear probe fitted on all clients' data by sums: is a forgotten class still laid out in the features?

A linear discriminant (Fisher 1936, with a shrunken covariance) has a closed form in sums over samples: features by
class, and products of features. Clients send those sums over their own samples, and what the server solves is the
probe of the pooled data, to rounding. Features of more than 64 dimensions are first projected onto 64 random ones,
the same for everybody (Johnson and Lindenstrauss 1984), so that what crosses is bounded. Federated sums for a probe
are *reconstruction*. Compare with the retrained model's: features learned without a class separate it to some degree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fedunlearn.audit.counts import MINIMUM_SAMPLES, add
from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.probe import features
from fedunlearn.audit.subject import Subject
from fedunlearn.data.planting import ORDINARY
from fedunlearn.randomness import derive_seed

NAME = "probe"
DIMENSIONS = 64
PRODUCTS = DIMENSIONS * (DIMENSIONS + 1) // 2
"""Products of features: the upper triangle of a symmetric matrix."""
SHRINKAGE = 0.1
"""Share of the covariance that is replaced by its mean variance in every direction."""


def projected(inputs: Tensor) -> Tensor:
    """Features on `DIMENSIONS` axes, N x 64, float64: padded with zeros, or projected onto random directions.

    Args:
        inputs: N x D.
    """
    wide = inputs.double()
    dimensions = wide.shape[1]
    if dimensions <= DIMENSIONS:
        return functional.pad(wide, (0, DIMENSIONS - dimensions))
    generator = torch.Generator().manual_seed(derive_seed("probe", dimensions))
    directions = torch.randn(dimensions, DIMENSIONS, generator=generator, dtype=torch.float64)
    return wide @ directions / DIMENSIONS**0.5


def sums(inputs: Tensor, labels: Tensor, classes: int) -> dict[str, Any] | None:
    """What one holder sends: sums of features by class and of their products, and samples by class.

    Classes with fewer than 20 samples here are left out, because the sum over one sample is the sample; None
    (withheld) where no class is left.

    Args:
        inputs: features on `DIMENSIONS` axes, N x 64.
        labels: int64, (N,).
    """
    counts = torch.bincount(labels, minlength=classes)
    kept = (counts >= MINIMUM_SAMPLES)[labels]
    if not bool(kept.any()):
        return None
    inputs, labels = inputs[kept], labels[kept]
    members = functional.one_hot(labels, classes).double()
    upper = torch.triu_indices(DIMENSIONS, DIMENSIONS)
    return {
        "samples": len(labels),
        "total": members.sum(dim=0).long().tolist(),
        "features": (members.T @ inputs).flatten().tolist(),
        "products": (inputs.T @ inputs)[upper[0], upper[1]].tolist(),
    }


def discriminant(found: Mapping[str, Any], classes: int) -> tuple[Tensor, Tensor]:
    """The probe of the (summed) sums: weight K x 64 and bias K of log-posteriors; -inf for a class without samples."""
    counts = torch.tensor(found["total"], dtype=torch.float64)
    means = torch.tensor(found["features"], dtype=torch.float64).reshape(classes, DIMENSIONS)
    means = means / counts.clamp_min(1.0)[:, None]
    products = torch.zeros(DIMENSIONS, DIMENSIONS, dtype=torch.float64)
    upper = torch.triu_indices(DIMENSIONS, DIMENSIONS)
    products[upper[0], upper[1]] = torch.tensor(found["products"], dtype=torch.float64)
    products = products + products.triu(1).T
    covariance = (products - (means.T * counts) @ means) / counts.sum()
    average = covariance.diagonal().mean().clamp_min(1e-12)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * average * torch.eye(DIMENSIONS, dtype=torch.float64)
    weight = torch.linalg.solve(covariance, means.T).T
    priors = torch.where(counts > 0, (counts / counts.sum()).clamp_min(1e-300).log(), -torch.inf)
    return weight, priors - 0.5 * (means * weight).sum(dim=1)


def measure(subject: Subject, generator: torch.Generator) -> Finding:
    """The sums over what is held (a target: over its forget set); the server: its test samples' own features."""
    samples = {"target": subject.forget, "remaining": subject.retained, "server": subject.held_out}[subject.role]
    if subject.role == "target":
        # What was planted has labels that no features should separate.
        samples = samples.take(torch.tensor(subject.parts == ORDINARY).nonzero().flatten())
    if not len(samples):
        return {}
    network = subject.network(subject.model)
    inputs = projected(features(subject.task, network, subject.layout.output_layer, samples.inputs))
    if subject.role == "server":
        own = subject.evaluate(subject.model, samples).predictions
        found = {"inputs": inputs.flatten().tolist(), "labels": samples.labels.tolist(), "own": own.tolist()}
        return found  # type: ignore[return-value]
    return sums(inputs, samples.labels, subject.classes) or {}


def combine(gathered: Gathered) -> Mapping[str, Value]:
    """Accuracy and loss on the test samples of the forgotten classes (of all where none is named), and accuracy.

    What the probe finds there beyond the model's own output layer is "regained": then only that layer had forgotten
    (the erasure probe of GS-LoRA's authors, who train a head on a tenth of the data).
    """
    classes = gathered.sizes.classes
    found = add([*_given(gathered.target), *_given(gathered.remaining)])
    names = (NAME, f"{NAME}.loss", f"{NAME}.overall", f"{NAME}.regained")
    if found is None or not gathered.server:
        why = f"{NAME} needs {MINIMUM_SAMPLES} samples of a class at one client, and a test set; there is none."
        return dict.fromkeys(names, Value.refusal(why))
    weight, bias = discriminant(found, classes)
    labels = torch.tensor(gathered.server["labels"])
    inputs = torch.tensor(gathered.server["inputs"], dtype=torch.float64).reshape(-1, DIMENSIONS)
    scores = functional.linear(inputs, weight, bias)
    # A class that no client could report on has no finite loss; one in e^50 stands for it.
    losses = functional.cross_entropy(scores, labels, reduction="none").clamp_max(50.0)
    right = scores.argmax(dim=1) == labels
    asked = torch.isin(labels, torch.tensor(gathered.forgotten_classes, dtype=torch.int64))
    if not bool(asked.any()):
        asked = torch.ones_like(asked)
    found_again = float(right[asked].double().mean())
    own = (torch.tensor(gathered.server["own"]) == labels)[asked].double().mean()
    return {
        NAME: Value.rate(found_again, int(asked.sum())),
        f"{NAME}.regained": Value(found_again - float(own)),
        f"{NAME}.loss": Value.loss(float(losses[asked].mean())),
        f"{NAME}.overall": Value.rate(float(right.double().mean()), len(right)),
    }


def _given(findings: Mapping[int, Finding]) -> Sequence[Finding]:
    return [finding for finding in findings.values() if finding]
