"""A limit: a plain PyTorch loop over the same batches, one process a core, each with half of the clients."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import Any

import torch
from contender import read_job, run_rounds, sampled
from local_training import network, tensors, train

WORKERS = 2


def work(job: dict[str, Any], share: list[int], pipe: Connection) -> None:
    """Train every client of this process's share and return the weighted sum of their models."""
    torch.set_num_threads(1)
    model = network(job)
    data = {client: tensors(job, client) for client in share}
    while (message := pipe.recv()) is not None:
        state, number = message
        sums = {name: torch.zeros_like(value) for name, value in state.items()}
        samples = 0
        for client in sorted(set(share) & set(sampled(job, number))):
            model.load_state_dict(state)
            inputs, labels = data[client]
            train(model, inputs, labels, seed=number * job["clients"] + client)
            samples += len(labels)
            for name, value in model.state_dict().items():
                sums[name].add_(value, alpha=len(labels))
        pipe.send((sums, samples))


def main() -> None:
    """Run the job."""
    job = read_job()
    started = time.perf_counter()
    torch.set_num_threads(1)
    state: dict[str, torch.Tensor] = dict(network(job).state_dict())
    context = multiprocessing.get_context("spawn")
    pipes = []
    for worker in range(WORKERS):
        own, theirs = context.Pipe()
        share = list(range(worker, job["clients"], WORKERS))
        context.Process(target=work, args=(job, share, theirs), daemon=True).start()
        pipes.append(own)

    def one_round(number: int) -> None:
        for pipe in pipes:
            pipe.send((state, number))
        sums, samples = zip(*(pipe.recv() for pipe in pipes), strict=True)
        for name in state:
            state[name] = sum(part[name] for part in sums) / sum(samples)

    run_rounds(job, one_round, started)
    for pipe in pipes:
        pipe.send(None)


if __name__ == "__main__":
    main()
