"""BlazeFL's thread pool or process pool, with its own FedAvg aggregation."""

from __future__ import annotations

import multiprocessing
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from blazefl.contrib.fedavg import FedAvgBaseServerHandler
from blazefl.core import (
    IPCMode,
    ProcessPoolClientTrainer,
    ThreadPoolClientTrainer,
    deserialize_model,
    process_tensors_in_object,
    serialize_model,
)
from contender import model_arrays, read_job, run_rounds, sampled

WORKERS = 2


@dataclass
class Down:
    """What a client gets: the model as one flat tensor."""

    model_parameters: torch.Tensor
    number: int


@dataclass
class Up:
    """What a client sends."""

    cid: int
    model_parameters: Any
    data_size: int


_models = threading.local()
_data: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}


def compute(job: dict[str, Any], client: int, payload: Down) -> Up:
    """A client's work."""
    torch.set_num_threads(1)
    if job["kind"] == "no-op":
        return Up(client, payload.model_parameters.clone(), 10)
    from local_training import network, tensors, train

    if not hasattr(_models, "model"):
        _models.model = network(job)
    if client not in _data:
        _data[client] = tensors(job, client)
    inputs, labels = _data[client]
    deserialize_model(_models.model, payload.model_parameters)
    train(_models.model, inputs, labels, seed=payload.number * job["clients"] + client)
    return Up(client, serialize_model(_models.model), len(labels))


class Threads(ThreadPoolClientTrainer[Up, Down]):
    """Clients in the threads of a pool."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job, self.num_parallels, self.device, self.device_count = job, WORKERS, "cpu", 0
        self.cache: list[Up] = []
        self.stop_event = threading.Event()

    def worker(self, cid: int, device: str, payload: Down, stop_event: threading.Event) -> Up:
        """One client."""
        return compute(self.job, cid, payload)


class Processes(ProcessPoolClientTrainer[Up, Down, dict]):
    """Clients in the processes of a pool, tensors in shared memory."""

    def __init__(self, job: dict[str, Any], length: int) -> None:
        self.job, self.length = job, length
        self.num_parallels, self.device, self.device_count = WORKERS, "cpu", 0
        self.share_dir, self.ipc_mode = Path(), IPCMode.SHARED_MEMORY
        self.cache: list[Up] = []
        self.stop_event = multiprocessing.Manager().Event()

    def get_client_config(self, cid: int) -> dict:
        """What a worker needs to know of the client."""
        return {"client": cid, "job": self.job}

    def prepare_uplink_package_buffer(self) -> Up:
        """Where a client's answer goes."""
        return Up(0, torch.zeros(self.length), 0)

    @staticmethod
    def worker(config: dict, payload: Down, device: str, stop_event: Any, *, shm_buffer: Up) -> Up:  # type: ignore[override]
        """One client."""
        reply = compute(config["job"], config["client"], payload)
        shm_buffer.model_parameters.copy_(reply.model_parameters)
        reply.model_parameters = shm_buffer.model_parameters
        return process_tensors_in_object(reply, mode="replace")


def main() -> None:
    """Run the job."""
    job = read_job()
    started = time.perf_counter()
    torch.set_num_threads(1)
    if job["kind"] == "no-op":
        flat = torch.cat([torch.from_numpy(array) for array in model_arrays(job)])
    else:
        from local_training import network

        flat = serialize_model(network(job))
    current = [flat]
    trainer = Threads(job) if job["pool"] == "threads" else Processes(job, len(flat))

    def one_round(number: int) -> None:
        trainer.cache = []
        trainer.local_process(Down(current[0].clone(), number), sampled(job, number))
        replies = trainer.cache
        current[0] = FedAvgBaseServerHandler.aggregate(
            [reply.model_parameters for reply in replies], [reply.data_size for reply in replies]
        )

    run_rounds(job, one_round, started)


if __name__ == "__main__":
    main()
