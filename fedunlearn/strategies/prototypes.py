"""Prototypes: the mean feature of each class, summed up where the samples are; few samples of a class say nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fedunlearn.audit.counts import MINIMUM_SAMPLES
from fedunlearn.audit.probe import features
from fedunlearn.data.dataset import Samples
from fedunlearn.strategies.method import ClientReply, Down, Phase, Reply, State, Work

SUMS = "classes"
"""The one array that a client answers with, K x (D + 1) float32: sums of features by class, and samples by class."""
PROTOTYPES = "prototypes"
MESSAGE = "query.prototypes"


def class_sums(work: Work, samples: Samples) -> Tensor:
    """Sums of the features (inputs of the output layer) by class and, last in each row, samples: K x (D + 1)."""
    found = features(work.task, work.model, work.layout.output_layer, samples.inputs)
    if not len(samples):
        width = work.base[work.layout.output[0]].shape[1]
        found = torch.zeros(0, width)
    rows = torch.cat([found, torch.ones(len(found), 1)], dim=1)
    return torch.zeros(work.classes, rows.shape[1]).index_add_(0, samples.labels, rows)


def means(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Prototypes K x D of such sums, and K times whether there is one."""
    counted = sums[:, -1]
    return sums[:, :-1] / counted.clamp_min(1.0)[:, None], counted > 0


def say_sums(work: Work) -> Reply:
    """Sums over the retained samples of each class of which there are 20 here; no forgotten class is among them."""
    sums = class_sums(work, work.retain)
    forgotten = torch.bincount(work.forget.labels, minlength=work.classes) > 0
    sums[(sums[:, -1] < MINIMUM_SAMPLES) | forgotten] = 0.0
    return Reply({SUMS: sums.numpy()}, {"num-examples": int(sums[:, -1].sum())})


def add_sums(state: State, replies: Sequence[ClientReply]) -> State:
    """The sum of all clients' sums, left as `PROTOTYPES`."""
    total = np.zeros_like(replies[0].arrays[SUMS], np.float64)
    for reply in replies:
        total += reply.arrays[SUMS]
    return replace(state, arrays={**state.arrays, PROTOTYPES: total.astype(np.float32)})


ASK_PROTOTYPES = Phase(MESSAGE, "remaining", lambda state: Down(), say_sums, add_sums)
