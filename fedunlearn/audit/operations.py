"""How much computing a sample costs: floating-point operations of one batch, counted while it runs."""

from __future__ import annotations

import copy
import resource
import sys
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fedunlearn.data.dataset import Samples
from fedunlearn.errors import DataError
from fedunlearn.tasks.base import Task
from fedunlearn.tasks.randomness import isolated_seed


@dataclass(frozen=True)
class Operations:
    """Floating-point operations a sample: multiplications and additions of convolutions and matrix products.

    Attributes:
        forward: of an answer.
        backward: of the gradient, on top of the answer.
    """

    forward: float
    backward: float

    @property
    def training(self) -> float:
        """Of one sample of one local pass: answer and gradient."""
        return self.forward + self.backward


def operations_per_sample(task: Task, model: nn.Module, samples: Samples) -> Operations:
    """Count one batch's operations with torch's own counter, and divide; `model` is left as it was.

    Activations, normalisations and the optimiser's step are not counted: they are a few in a hundred.

    Raises:
        DataError: there are no samples.
    """
    if not len(samples):
        raise DataError("counting operations needs a batch of samples; got none.")
    # As in training, where a loss may cost more or less than in an evaluation.
    network = copy.deepcopy(model).train().requires_grad_(True)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    inputs = task.inputs(samples.inputs)
    with torch.enable_grad(), isolated_seed(0):
        with FlopCounterMode(display=False) as answering:
            loss = task.loss(network, inputs, samples.labels).mean()
        with FlopCounterMode(display=False) as learning:
            loss.backward()
    return Operations(answering.get_total_flops() / len(samples), learning.get_total_flops() / len(samples))


def peak_memory_bytes() -> int:
    """The most memory that this process, or the largest of its ended children, has held at any time."""
    # Linux counts in units of 1024 bytes, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
