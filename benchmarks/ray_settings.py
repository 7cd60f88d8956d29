"""Which settings of Flower's Ray engine are best: seconds of an exchange with 100 clients, by CPUs a client.

    python benchmarks/ray_settings.py [--clients 100] [--repetitions 2] [--out benchmarks/results/ray_settings.md]

Two kinds of clients: one that returns the 100 kB it was sent, and one that also computes for 50 ms. A client's CPUs
decide how many Ray processes there are (cores / CPUs). The settings take turns; each time Ray starts anew.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from pathlib import Path

import flwr
import numpy as np
import ray
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from table_file import show

from fedunlearn.engines.ray import run_on_ray
from fedunlearn.engines.worker_pool import cores
from fedunlearn.flower_arrays import live_record

CPUS = (0.5, 1.0, 2.0)
ROUNDS = 4
BUSY_SECONDS = {"does nothing": 0.0, "computes for 50 ms": 0.05}


def client_app() -> ClientApp:
    """Clients that compute for as long as the run configuration says, and return what they are sent."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        until = time.process_time() + float(context.run_config["busy"])
        while time.process_time() < until:
            pass
        records = RecordDict({"arrays": message.content["arrays"], "metrics": MetricRecord({"num-examples": 1})})
        return Message(records, reply_to=message)

    return app


def play(grid: Grid) -> list[float]:
    """Seconds of each exchange, the first left out."""
    arrays = live_record({f"layer{number}": np.zeros(2500, dtype=np.float32) for number in range(10)})
    taken = []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        messages = [Message(RecordDict({"arrays": arrays}), node, "train") for node in grid.get_node_ids()]
        replies = list(grid.send_and_receive(messages))
        taken.append(time.perf_counter() - started)
        assert all(reply.has_content() for reply in replies)
    return taken[1:]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    exchanges: dict[tuple[str, float], list[float]] = {}
    starts: dict[float, list[float]] = {}
    for _ in range(arguments.repetitions):
        for name, busy in BUSY_SECONDS.items():
            for cpus in CPUS:
                began = time.perf_counter()
                started: list[float] = []

                def server(grid: Grid, began: float = began, started: list[float] = started) -> list[float]:
                    started.append(time.perf_counter() - began)
                    return play(grid)

                taken = run_on_ray(server, client_app, arguments.clients, {"busy": busy}, cpus=cpus)
                exchanges.setdefault((name, cpus), []).append(statistics.median(taken))
                starts.setdefault(cpus, []).append(started[0])
    lines = [
        "# Flower on Ray, by CPUs a client",
        "",
        f"Seconds of an exchange with {arguments.clients} clients x 100 kB: median of {ROUNDS}, least and most of "
        f"{arguments.repetitions} runs; {cores()} cores (load average at the start {load:.1f}); "
        f"flwr {flwr.__version__}, ray {ray.__version__}, Python {platform.python_version()}.",
        "Made by `python benchmarks/ray_settings.py`.",
        "",
        "| CPUs a client | " + " | ".join(f"{name}, s" for name in BUSY_SECONDS) + " | until the grid is there, s |",
        "|---|" + "---:|" * (len(BUSY_SECONDS) + 1),
    ]
    for cpus in CPUS:
        cells = [f"{min(one):.2f} to {max(one):.2f}" for one in (exchanges[name, cpus] for name in BUSY_SECONDS)]
        lines.append(f"| {cpus:g} | " + " | ".join(cells) + f" | {statistics.median(starts[cpus]):.1f} |")
    show(lines, arguments.out)


if __name__ == "__main__":
    main()
