"""FedLab's serial trainer and its synchronous server."""

from __future__ import annotations

import time
from typing import Any

import torch
from contender import model_arrays, read_job, run_rounds, sampled
from fedlab.contrib.algorithm.basic_client import SGDSerialClientTrainer
from fedlab.utils.aggregator import Aggregators
from fedlab.utils.serialization import SerializationTool
from torch import nn


class Flat(nn.Module):
    """A model of a no-op job."""

    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__()
        self.arrays = nn.ParameterList([nn.Parameter(torch.from_numpy(array)) for array in model_arrays(job)])


class NoOp(SGDSerialClientTrainer):
    """Clients that return what they are sent."""

    def local_process(self, payload: list[torch.Tensor], id_list: list[int]) -> None:
        """All clients of a round."""
        for _ in id_list:
            self.set_model(payload[0])
            self.cache.append([self.model_parameters, 10])


class Training(SGDSerialClientTrainer):
    """Clients that train one epoch."""

    def setup(self, job: dict[str, Any]) -> None:
        """Load every client's data once."""
        from local_training import tensors

        self.job, self.number = job, 0
        self.data = {client: tensors(job, client) for client in range(job["clients"])}

    def local_process(self, payload: list[torch.Tensor], id_list: list[int]) -> None:
        """All clients of a round."""
        from local_training import train

        for client in id_list:
            inputs, labels = self.data[client]
            self.set_model(payload[0])
            train(self.model, inputs, labels, seed=self.number * self.job["clients"] + client)
            self.cache.append([self.model_parameters, len(labels)])


def main() -> None:
    """Run the job."""
    job = read_job()
    started = time.perf_counter()
    torch.set_num_threads(1)
    if job["kind"] == "no-op":
        model: nn.Module = Flat(job)
        trainer: SGDSerialClientTrainer = NoOp(model, job["clients"])
    else:
        from local_training import network

        model = network(job)
        trainer = Training(model, job["clients"])
        trainer.setup(job)
    current = [SerializationTool.serialize_model(model)]

    def one_round(number: int) -> None:
        trainer.number = number
        trainer.local_process([current[0]], sampled(job, number))
        packages = trainer.uplink_package
        current[0] = Aggregators.fedavg_aggregate([one[0] for one in packages], [one[1] for one in packages])

    run_rounds(job, one_round, started)


if __name__ == "__main__":
    main()
