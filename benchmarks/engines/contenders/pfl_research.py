"""pfl-research's simulated backend and its federated averaging, in one process."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from contender import answer, model_arrays, read_job
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
from pfl.internal.ops import pytorch_ops  # noqa: F401  (selects PyTorch)
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel
from torch import nn


class Flat(nn.Module):
    """A model of a no-op job."""

    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__()
        self.arrays = nn.ParameterList([nn.Parameter(torch.from_numpy(array)) for array in model_arrays(job)])


def no_metrics(inputs: torch.Tensor, labels: torch.Tensor, eval: bool = False) -> dict:
    """What is asked of a model in the first round, which is not measured."""
    return {}


class Averaging(FederatedAveraging):
    """Its federated averaging with the job's local work."""

    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__()
        self.job, self.number = job, 0

    def train_one_user(self, initial_model_state, model, user_dataset, central_context):  # type: ignore[no-untyped-def]
        """One client."""
        if self.job["kind"] == "train":
            from local_training import train

            inputs, labels = user_dataset.raw_data
            train(model.pytorch_model, inputs, labels, seed=int(user_dataset.user_id))
        return model.get_model_difference(initial_model_state), Metrics()


class Clock(TrainingProcessCallback):
    """Notes when each round ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):  # type: ignore[no-untyped-def]
        """A round ended."""
        self.ends.append(time.perf_counter())
        return False, Metrics()


def main() -> None:
    """Run the job."""
    job = read_job()
    started = time.perf_counter()
    torch.set_num_threads(1)
    if job["kind"] == "no-op":
        module: nn.Module = Flat(job)
        data = {client: (np.zeros(1), np.zeros(1)) for client in range(job["clients"])}
    else:
        from local_training import network, tensors

        module = network(job)
        data = {client: tensors(job, client) for client in range(job["clients"])}
    # Its models bring a loss and metrics; the loss here is that of our own local training.
    module.loss = module.metrics = no_metrics  # type: ignore[assignment]
    model = PyTorchModel(
        module, local_optimizer_create=torch.optim.SGD, central_optimizer=torch.optim.SGD(module.parameters(), lr=1.0)
    )
    dataset = FederatedDataset(
        lambda client: Dataset(list(data[client]), user_id=str(client)),
        get_user_sampler("minimize_reuse", list(range(job["clients"]))),
    )
    clock, rounds = Clock(), job["rounds"] + 1
    Averaging(job).run(
        NNAlgorithmParams(
            central_num_iterations=rounds,
            evaluation_frequency=rounds + 1,
            train_cohort_size=job["sampled"],
            val_cohort_size=0,
        ),
        SimulatedBackend(training_data=dataset, val_data=dataset),
        model,
        NNTrainHyperParams(local_num_epochs=1, local_learning_rate=0.02, local_batch_size=32),
        NNEvalHyperParams(local_batch_size=32),
        callbacks=[clock],
        send_metrics_to_platform=False,
    )
    ends = clock.ends
    answer([after - before for before, after in pairwise(ends)], ends[0] - started)


if __name__ == "__main__":
    main()
