"""How much each weight matters for some samples: gradients over a client's data, answered to `query.importance`.

Nothing per sample leaves a client, and nothing at all that is made of fewer than 20 samples.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fedunlearn.audit.counts import MINIMUM_SAMPLES
from fedunlearn.channels.packing import pack
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import ClientError
from fedunlearn.strategies.method import Reply, Work
from fedunlearn.tasks.base import with_classes
from fedunlearn.tasks.training import modes_kept

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def is_weight(name: str, array: np.ndarray | Tensor) -> bool:
    """Whether an entry of a state dict is learnt by gradients: floating-point, and no normalisation's statistic."""
    floating = array.dtype.is_floating_point if isinstance(array, Tensor) else array.dtype.kind == "f"
    return floating and name.rpartition(".")[2] not in _STATISTICS


def mean_gradients(work: Work, samples: Samples, batch_size: int, power: int = 1) -> dict[str, Tensor]:
    """The mean over batches of each batch's gradient, raised to `power` (1 or 2), by parameter; evaluation mode.

    Args:
        batch_size: samples whose mean loss is differentiated; 1 with power 2 gives the mean of squares per sample.
    """
    total = {name: torch.zeros_like(parameter) for name, parameter in work.model.named_parameters()}
    batches = 0
    with modes_kept(work.model):
        work.model.eval()
        for start in range(0, len(samples), batch_size):
            part = slice(start, start + batch_size)
            losses = work.task.loss(work.model, work.task.inputs(samples.inputs[part]), samples.labels[part])
            for name, gradient in _gradients(work, losses.mean()):
                total[name] += gradient**power
            batches += 1
    return {name: one / max(1, batches) for name, one in total.items()}


def fisher_diagonal(work: Work, samples: Samples) -> dict[str, Tensor]:
    """The diagonal of the Fisher information, by parameter: the expected square of the gradient of log p(y | x).

    The expectation is the model's own over every class y, and the mean over samples x; evaluation mode.
    """
    total = {name: torch.zeros_like(parameter) for name, parameter in work.model.named_parameters()}
    with modes_kept(work.model):
        work.model.eval()
        for position in range(len(samples)):
            inputs = work.task.inputs(samples.inputs[position : position + 1])
            likelihoods = functional.log_softmax(with_classes(work.task).predict(work.model, inputs), dim=1)[0]
            probabilities = likelihoods.detach().exp()
            for name, gradients in _gradients(work, likelihoods):
                total[name] += torch.tensordot(probabilities, gradients.square(), dims=1)
    return {name: one / max(1, len(samples)) for name, one in total.items()}


def told(work: Work, importance: Mapping[str, Tensor], samples: int, started: float) -> Reply:
    """The answer to `query.importance`: an array for each that came down; what has no gradient is 0.

    Args:
        started: `time.monotonic()` when the computation began.
    """
    state = {name: torch.zeros_like(tensor) for name, tensor in work.model.state_dict().items()}
    arrays = pack({**state, **importance}, work.portion)
    return Reply(arrays, {"num-examples": samples, "seconds": time.monotonic() - started})


def check_enough(samples: Samples, what: str) -> None:
    """Raise ClientError for fewer than 20 samples: an aggregate of so few says too much of each of them."""
    if len(samples) < MINIMUM_SAMPLES:
        raise ClientError(
            f"the client has fewer than {MINIMUM_SAMPLES} {what} samples and withholds what is computed from them; "
            "use a method that asks for no importance, such as retrain."
        )


def _gradients(work: Work, values: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The gradient of a number by each parameter that it depends on; of K numbers each one's, stacked."""
    named = [(name, parameter) for name, parameter in work.model.named_parameters() if parameter.requires_grad]
    parameters = [parameter for _, parameter in named]
    if values.dim() == 0:
        found = torch.autograd.grad(values, parameters, allow_unused=True)
    else:
        each = torch.eye(len(values))
        found = torch.autograd.grad(values, parameters, each, allow_unused=True, is_grads_batched=True)
    for (name, _), gradient in zip(named, found, strict=True):
        if gradient is not None:
            yield name, gradient
