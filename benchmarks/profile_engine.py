"""Where a round's time goes: the local engine with a client that returns what it is sent.

    python benchmarks/profile_engine.py [--repetitions 9] [--out benchmarks/results/profile-engine.md]

Each federation trains some rounds of 10 float32 arrays a client, averaged as its strategies do. The first table has
wall time a round and processor time a message, of this process and of the workers; the others say in which part of the
code this process spends it. Wall time depends on what else the machine does, processor time much less.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import platform
import pstats
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import flwr
import numpy as np
from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedunlearn.engines import LocalGrid
from fedunlearn.engines.worker_pool import WorkerPool, cores
from fedunlearn.flower_arrays import live_record, view
from fedunlearn.strategies.running_mean import RunningMean

ARRAYS = 10
TICK = os.sysconf("SC_CLK_TCK")

PARTS = (
    ("fedunlearn/strategies", "averaging"),
    ("benchmarks/profile_engine", "this script (its server and, inline, its client)"),
    ("fedunlearn/engines/records", "records to layouts and back"),
    ("fedunlearn/engines/channel", "channel to the workers"),
    ("fedunlearn/engines", "the engine's own code"),
    ("fedunlearn/flower_arrays", "arrays without copies"),
    ("flwr/", "Flower: messages, records, the client app's call"),
    ("json/", "JSON"),
)


@dataclass(frozen=True)
class Case:
    """A federation to measure: `fresh` clients return new arrays, the others those that they were sent."""

    name: str
    clients: int
    size: int
    workers: int
    timeout: float | None = None
    fresh: bool = False


CASES = (
    Case("inline", 100, 100_000, 0),
    Case("inline, with a time limit", 100, 100_000, 0, timeout=600.0),
    Case("inline", 1_000, 100_000, 0),
    Case("inline", 10_000, 100_000, 0),
    Case("inline", 100, 10_000_000, 0),
    Case("pool of 2, same arrays back", 100, 100_000, 2, timeout=600.0),
    Case("pool of 2, new arrays back", 100, 100_000, 2, timeout=600.0, fresh=True),
    Case("pool of 2, new arrays back", 1_000, 100_000, 2, timeout=600.0, fresh=True),
    Case("pool of 2, new arrays back", 100, 10_000_000, 2, timeout=600.0, fresh=True),
)
PROFILED = (0, 6)
"""Cases of which it is told where the time goes."""


def same() -> ClientApp:
    """Clients that return what they are sent."""
    app = ClientApp()

    @app.train()
    def train(message: Message, _: object) -> Message:
        records = RecordDict({"arrays": message.content["arrays"], "metrics": MetricRecord({"num-examples": 1})})
        return Message(records, reply_to=message)

    return app


def fresh() -> ClientApp:
    """Clients that return arrays of their own."""
    app = ClientApp()

    @app.train()
    def train(message: Message, _: object) -> Message:
        arrays = {name: view(array) + np.float32(1) for name, array in message.content["arrays"].items()}
        records = RecordDict({"arrays": live_record(arrays), "metrics": MetricRecord({"num-examples": 1})})
        return Message(records, reply_to=message)

    return app


def model(size: int) -> dict[str, np.ndarray]:
    """Arrays of `size` bytes together."""
    values = np.random.default_rng(0).random(size // 4 // ARRAYS, dtype=np.float32)
    return {f"layer{number}": values.copy() for number in range(ARRAYS)}


def play(grid: LocalGrid, arrays: dict[str, np.ndarray]) -> None:
    """One round: to every client, and their average."""
    record = live_record(arrays)
    messages = (Message(RecordDict({"arrays": record}), node, "train") for node in grid.get_node_ids())
    mean = RunningMean(arrays)
    for reply in grid.send_and_receive(messages):
        mean.add({name: view(array) for name, array in reply.content["arrays"].items()}, 1.0)
        del reply
    mean.result()


def numpy_sum(clients: int, arrays: dict[str, np.ndarray]) -> float:
    """Seconds of the same average without any federation: arrays added to a sum, one client after the other."""
    started = time.perf_counter()
    sums = [np.zeros_like(array) for array in arrays.values()]
    for _ in range(clients):
        for total, array in zip(sums, arrays.values(), strict=True):
            total += array * np.float32(1 / clients)
    return time.perf_counter() - started


@contextmanager
def grid_of(case: Case, pool: WorkerPool) -> Iterator[LocalGrid]:
    """A grid that has played a round."""
    source = fresh if case.fresh else same
    with LocalGrid(source(), case.clients, None, case.timeout, workers=case.workers, pool=pool) as grid:
        play(grid, model(case.size))
        yield grid


def processor_seconds(pool: WorkerPool, workers: int) -> tuple[float, float]:
    """Of this process, and of the workers."""
    used = 0
    for worker in pool.at_least(workers):
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rsplit(")", 1)[1].split()
        used += int(fields[11]) + int(fields[12])
    return time.process_time(), used / TICK


def measured(case: Case, pool: WorkerPool, repetitions: int) -> str:
    """A row of the first table."""
    arrays = model(case.size)
    with grid_of(case, pool) as grid:
        walls, limits = [], []
        before = processor_seconds(pool, case.workers)
        for _ in range(repetitions):
            started = time.perf_counter()
            play(grid, arrays)
            walls.append(time.perf_counter() - started)
        after = processor_seconds(pool, case.workers)
        limits = [numpy_sum(case.clients, arrays) for _ in range(repetitions)]
    messages = repetitions * case.clients
    own, others = ((after[i] - before[i]) / messages * 1e6 for i in (0, 1))
    return (
        f"| {case.name} | {case.clients:,} x {case.size / 1e6:g} MB | {statistics.median(walls) * 1e3:.1f} | "
        f"{min(walls) * 1e3:.1f} | {min(limits) * 1e3:.1f} | {min(walls) / case.clients * 1e3:.3f} | "
        f"{own:.0f} | {others:.0f} |"
    )


def where(case: Case, pool: WorkerPool, rounds: int) -> list[str]:
    """A table of the parts of the code, and what of it takes longest."""
    arrays = model(case.size)
    profile = cProfile.Profile()
    with grid_of(case, pool) as grid:
        profile.enable()
        for _ in range(rounds):
            play(grid, arrays)
        profile.disable()
    shares: dict[str, float] = {}
    functions: list[tuple[float, str]] = []
    # The table that the module makes its reports of; it has no other way to it.
    for (file, _, function), (_, _, own, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        part = next((part for path, part in PARTS if path in file.replace(os.sep, "/")), "Python and numpy built in")
        waits = "poll" in function or ("get" in function and "SimpleQueue" in function)
        part = "waiting for clients" if waits else part
        shares[part] = shares.get(part, 0.0) + own
        functions.append((own, f"{Path(file).name}:{function}" if file != "~" else function))
    total = sum(shares.values())
    lines = ["| part | share |", "|---|---:|"]
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    lines += [f"| {part} | {100 * own / total:.0f} % |" for part, own in ordered if own >= 0.005 * total]
    longest = [f"`{name}` {100 * own / total:.0f} %" for own, name in sorted(functions, reverse=True)[:8]]
    return [*lines, "", "Longest by themselves: " + ", ".join(longest) + "."]


def report(repetitions: int, tell: Callable[[str], None]) -> str:
    """The page."""
    versions = f"flwr {flwr.__version__}, numpy {np.__version__}, Python {platform.python_version()}"
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    lines = [
        "# Where a round's time goes",
        "",
        f"A client that does nothing, {ARRAYS} float32 arrays; {repetitions} rounds; {cores()} cores "
        f"(load average at the start {load}); {versions}.",
        "Made by `python benchmarks/profile_engine.py`.",
        "",
        "| engine | clients x model | round, median ms | round, least ms | numpy sum, least ms | message, least ms | "
        "processor a message, us | of the workers, us |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    with WorkerPool() as pool:
        for case in CASES:
            lines.append(measured(case, pool, max(3, repetitions // 3) if case.clients > 1000 else repetitions))
            tell(lines[-1])
        for index in PROFILED:
            case = CASES[index]
            title = f"{case.name}, {case.clients:,} clients x {case.size / 1e6:g} MB"
            rounds = max(5, 2000 // case.clients)
            lines += ["", f"## {title[0].upper()}{title[1:]}: this process", "", *where(case, pool, rounds)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    text = report(arguments.repetitions, lambda line: print(line, flush=True))
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
