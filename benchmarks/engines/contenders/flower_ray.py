"""Flower's own simulation on Ray, with its FedAvg: one processor a client, the quickest setting for trivial clients."""

from __future__ import annotations

import json
import os
import time
import warnings
from functools import lru_cache
from itertools import pairwise

from contender import answer, model_arrays, read_job
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from no_op_app import make_app

JOB = "FEDUNLEARN_BENCHMARK_JOB"


@lru_cache(maxsize=1)
def _network():
    import torch
    from local_training import network

    torch.set_num_threads(1)
    return network(json.loads(os.environ[JOB]))


@lru_cache(maxsize=128)
def _data(client: int):
    from local_training import tensors

    return tensors(json.loads(os.environ[JOB]), client)


def training_app() -> ClientApp:
    """The client of a training job; it keeps its model and data as long as its process lives."""
    app = ClientApp()

    @app.train()
    def _train(message: Message, context: Context) -> Message:
        from local_training import train

        client = int(context.node_config["partition-id"])
        model, (inputs, labels) = _network(), _data(client)
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        number = int(message.content["config"]["server-round"])
        train(model, inputs, labels, seed=number * 1000 + client)
        metrics = MetricRecord({"num-examples": len(labels)})
        content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
        return Message(content, reply_to=message)

    return app


def main() -> None:
    """Run the job."""
    warnings.simplefilter("ignore")
    job = read_job()
    os.environ[JOB] = json.dumps(job)
    started = time.perf_counter()
    if job["kind"] == "no-op":
        initial, app = ArrayRecord(model_arrays(job)), make_app()
    else:
        initial, app = ArrayRecord(_network().state_dict()), training_app()
    ends: list[float] = []

    def mark(number: int, arrays: ArrayRecord) -> None:
        ends.append(time.perf_counter())

    server = ServerApp()

    @server.main()
    def _main(grid: Grid, context: Context) -> None:
        share = job["sampled"] / job["clients"]
        strategy = FedAvg(fraction_train=share, fraction_evaluate=0.0)
        strategy.start(grid=grid, initial_arrays=initial, num_rounds=job["rounds"] + 1, evaluate_fn=mark)

    run_simulation(
        server_app=server,
        client_app=app,
        num_supernodes=job["clients"],
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {"log_to_driver": False, "logging_level": "ERROR"},
        },
    )
    answer([after - before for before, after in pairwise(ends[1:])], ends[1] - started)


if __name__ == "__main__":
    main()
