"""Membership inference by reconstruction error: an image that was learned is completed better than an unseen one.

The loss-threshold attack (Yeom et al. 2018) with the error of the completed image in the place of the loss, which
need not be an error of images at all: a model of tokens or of noise has other losses.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedunlearn.audit import score_attack
from fedunlearn.audit.error_histogram import ERROR_EDGES
from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.subject import Subject
from fedunlearn.data.dataset import Samples
from fedunlearn.tasks.outputs import errors

NAME = "reconstruction_attack"
EDGES = tuple(-edge for edge in reversed(ERROR_EDGES))


def measure(subject: Subject, generator: torch.Generator) -> Finding:
    """Histograms of the errors' negatives, members' and others'."""
    network = subject.network(subject.model)

    def score(samples: Samples) -> Tensor:
        return -errors(subject.task, network, samples)

    return score_attack.measure(subject, score, EDGES, generator)


def combine(gathered: Gathered) -> Mapping[str, Value]:
    """AUC of the error, and what belongs to it."""
    return score_attack.combine(NAME, gathered, len(EDGES) + 1)
