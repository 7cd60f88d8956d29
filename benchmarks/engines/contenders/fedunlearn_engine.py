"""Our own engine: the strategy and, for training, the client app that every user of fedunlearn runs."""

from __future__ import annotations

import tempfile
import time
from itertools import pairwise
from typing import Any

from contender import answer, model_arrays, read_job
from flwr.app import ArrayRecord, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from no_op_app import make_app

from fedunlearn import engines
from fedunlearn.channels.layout import Layout
from fedunlearn.clients.app import client_app
from fedunlearn.config import FederationSettings, run_config_of
from fedunlearn.flower_arrays import live_record
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.session import Session
from fedunlearn.strategies.unlearning import Architecture, UnlearningStrategy
from fedunlearn.tasks.training import TrainingSettings


def settings_of(job: dict[str, Any]) -> FederationSettings:
    """The federation of a training job."""
    task = "mnist5k" if job["data"] == "mnist5k" else f"images:{job['data']}"
    return FederationSettings(
        task=task,
        clients=job["clients"],
        partition="iid",
        local_epochs=1,
        network=job["network"],
        rounds=job["rounds"] + 1,
        workers=job["workers"],
        precision=job.get("precision", "float32"),
    )


def main() -> None:
    """Run the job."""
    job = read_job()
    started = time.perf_counter()
    if job["kind"] == "no-op":
        architecture = Architecture(Layout((), (), ""), lambda seed: {})
        initial = live_record({f"array-{i}": array for i, array in enumerate(model_arrays(job))})
        training, app, run_config = TrainingSettings(1, 0.01), make_app, {}
    else:
        settings = settings_of(job)
        folder = RunFolder.create(tempfile.mkdtemp(), settings)
        session = Session(folder)
        architecture, training, app = session.architecture, session.training, client_app
        initial = ArrayRecord(session.fresh(0))
        run_config = {**run_config_of(settings), "out": str(folder.path)}
    ends: list[float] = []

    def mark(number: int, arrays: ArrayRecord) -> MetricRecord | None:
        ends.append(time.perf_counter())
        return None

    def serve(grid: Grid) -> None:
        share = job["sampled"] / job["clients"]
        inner = FedAvg(fraction_train=share, fraction_evaluate=0.0, min_train_nodes=1, min_available_nodes=1)
        strategy = UnlearningStrategy(inner, architecture, training, rounds=job["rounds"] + 1)
        strategy.start(grid, initial, num_rounds=job["rounds"] + 1, evaluate_fn=mark)

    engines.run("local", serve, app, job["clients"], run_config, workers=job["workers"])
    # The first mark is made before the first round.
    answer([after - before for before, after in pairwise(ends[1:])], ends[1] - started)


if __name__ == "__main__":
    main()
