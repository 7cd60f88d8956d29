"""Flower's own simulation on Ray, with its FedAvg: one processor a client, the quickest setting for trivial clients."""

from __future__ import annotations

import json
import os
import time
import warnings
from itertools import pairwise

from contender import answer, model_arrays, read_job
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from no_op_app import make_app

JOB = "FEDUNLEARN_BENCHMARK_JOB"


def main() -> None:
    """Run the job."""
    warnings.simplefilter("ignore")
    job = read_job()
    os.environ[JOB] = json.dumps(job)
    started = time.perf_counter()
    if job["kind"] == "no-op":
        initial, app = ArrayRecord(model_arrays(job)), make_app()
    else:
        from ray_training import own_network, training_app

        initial, app = ArrayRecord(own_network().state_dict()), training_app()
    ends: list[float] = []
    last: dict[str, ArrayRecord] = {}

    def mark(number: int, arrays: ArrayRecord) -> None:
        ends.append(time.perf_counter())
        last["arrays"] = arrays

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
    if not last["arrays"]:
        raise SystemExit("no client answered: there is no model in the end")
    answer([after - before for before, after in pairwise(ends[1:])], ends[1] - started)


if __name__ == "__main__":
    main()
