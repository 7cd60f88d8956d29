"""Engines at the same jobs, interleaved: ours, the frameworks that install, and limits written by hand.

    python benchmarks/engines/run.py --profile quick|full [--cifar FOLDER] [--peers FOLDER] --out FOLDER

`--cifar` is a folder of class folders (`train/<class>/*`, `test/<class>/*`); without it the job on CIFAR-10 is left
out. `--peers` is where `install_peers.py` put the other frameworks; one that is not there, or that fails, is left out
with a word why. Every figure is the median over the processes of the median round; contenders take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from arithmetic import summary, turns
from jobs import CONTENDERS, FULL, JOBS, QUICK, Contender, Job
from measured_process import ContenderFailed, measure
from tables import write_tables
from workload import small_image_folder, write_client_data

from fedunlearn.reports.provenance import environment

HERE = Path(__file__).parent
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_LOG_LEVEL": "ERROR",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "PFL_PYTORCH_DEVICE": "cpu",
    "PYTHONWARNINGS": "ignore",
    "OMP_NUM_THREADS": "1",
}
TRAIN_IMAGES, TEST_IMAGES = 160, 10
"""Images of each class in the job on CIFAR-10: three batches a client, so that a round takes seconds."""


def main() -> None:
    """Run the jobs and write results.json, results.md and plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=(QUICK, FULL), default=QUICK)
    parser.add_argument("--repetitions", type=int, default=5, help="processes of each contender a job")
    parser.add_argument("--only", default="", help="only jobs whose name contains this")
    parser.add_argument("--cifar", type=Path, default=None)
    parser.add_argument("--peers", type=Path, default=Path(".bench"))
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one process")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    peers = arguments.peers.absolute().glob("*/bin/python")
    pythons = {"own": sys.executable, **{path.parents[1].name: str(path) for path in peers}}
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = arguments.out / "results.json"
    document: dict[str, Any] = json.loads(results.read_text()) if results.is_file() else {"jobs": {}}
    with tempfile.TemporaryDirectory() as scratch:
        for job in JOBS:
            if arguments.profile not in job.profiles or arguments.only not in job.name:
                continue
            values = _prepared(job, arguments.cifar, Path(scratch))
            if values is None:
                document["jobs"][job.name] = {
                    "left_out": dict.fromkeys((c.name for c in CONTENDERS), "no images given")
                }
                continue
            found = _run(job, values, pythons, arguments.repetitions, arguments.timeout)
            document["jobs"][job.name] = {**found, "environment": {**environment(), "source": None}}
            # After each job: a run that is stopped keeps what it has.
            results.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    write_tables(document, arguments.out)


def _prepared(job: Job, cifar: Path | None, scratch: Path) -> dict[str, Any] | None:
    """The job as its contenders read it, with its data on disk; None when the data is not there."""
    values: dict[str, Any] = asdict(job)
    if job.kind == "train":
        task = job.data
        if job.data == "cifar10":
            if cifar is None:
                return None
            folder = small_image_folder(cifar, scratch / "cifar10", TRAIN_IMAGES, TEST_IMAGES)
            task, values["data"] = f"images:{folder}", str(folder)
        values["data_file"] = str(write_client_data(task, job.clients, scratch / f"{job.network}.npz"))
    return values


def _run(job: Job, values: dict[str, Any], pythons: dict[str, str], repetitions: int, timeout: float) -> dict[str, Any]:
    left_out = {c.name: why for c in CONTENDERS if (why := c.leaves_out(job)) is not None}
    left_out |= {c.name: "not installed" for c in CONTENDERS if c.python not in pythons and c.name not in left_out}
    taking_part = {c.name: c for c in CONTENDERS if c.name not in left_out}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in taking_part}
    for repetition, name in turns(list(taking_part), repetitions):
        if name in left_out:
            continue
        try:
            runs[name].append(_measure(taking_part[name], values, pythons, timeout))
            print(f"{job.name} | {repetition + 1} | {name}: {runs[name][-1]['rounds']}", file=sys.stderr, flush=True)
        except ContenderFailed as failure:
            left_out[name] = f"failed: {failure}"
            print(f"{job.name} | {name} {left_out[name]}", file=sys.stderr, flush=True)
    done = {name: found for name, found in runs.items() if name not in left_out}
    return {
        "job": asdict(job),
        "runs": done,
        "summary": {name: summary(found) for name, found in done.items()},
        "left_out": {name: why for name, why in left_out.items() if not why.startswith("has no ")},
    }


def _measure(contender: Contender, values: dict[str, Any], pythons: dict[str, str], timeout: float) -> dict[str, Any]:
    job = json.dumps({**values, **dict(contender.options)})
    command = [pythons[contender.python], str(HERE / "contenders" / contender.script), job]
    # A peer's interpreter finds our networks in the checkout; nothing else of ours is imported there.
    own = {"PYTHONPATH": str(HERE.parents[1])}
    return measure(command, {**os.environ, **QUIET, **own}, timeout)


if __name__ == "__main__":
    main()
