"""What an audit costs, beside a round of training and beside retraining once.

    python benchmarks/audit_cost.py [--task mnist5k] [--local-epochs 2] [--out benchmarks/results/audit_cost.md]

Wall seconds in one process: a federation with the defaults of the command line, whose largest client leaves. The
standard audit is timed twice: with a band of eight models still to be retrained, and once they are there.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

from fedunlearn.benchmark import choose_client
from fedunlearn.federation import Federation
from fedunlearn.server.branches import MAIN

BAND = 8


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


def measure(task: str, local_epochs: int, folder: Path) -> dict[str, float]:
    """Seconds by what they were spent on."""
    federation = Federation.simulate(task, local_epochs=local_epochs, workers=0, cohort=1, out=folder)
    federation.train()
    rounds = federation._session().ledger.rounds(MAIN)
    request = federation.request_deletion(client=choose_client("largest", federation.settings))
    federation.unlearn(request)

    def audit(tier: str) -> float:
        return seconds(lambda: federation.audit(request, tier, processes=1, restore=False))

    found = {"a round of training": sum(row.seconds for row in rounds) / len(rounds), "quick": audit("quick")}
    found["standard, a model of a band to be retrained"] = audit("standard") / BAND
    found["standard, a model of a band that is there"] = audit("standard") / BAND
    found["retraining once"] = seconds(lambda: federation.retrain(request))
    return found


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="mnist5k")
    parser.add_argument("--local-epochs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments.task, arguments.local_epochs, Path(folder) / "run")
    pairs = (
        ("quick", "a round of training"),
        ("standard, a model of a band that is there", "retraining once"),
        ("standard, a model of a band to be retrained", "retraining once"),
    )
    versions = ", ".join(f"{name} {version(name)}" for name in ("fedunlearn", "torch"))
    lines = [
        f"The largest of ten clients leaves (task {arguments.task}, {arguments.local_epochs} local epochs, 15 rounds);",
        f"wall seconds, one process; {versions}, Python {platform.python_version()}.",
        "",
        "| audit | s | beside | s | ratio |",
        "|---|---:|---|---:|---:|",
    ]
    for audit, beside in pairs:
        own, other = found[audit], found[beside]
        lines.append(f"| {audit} | {own:.2f} | {beside} | {other:.2f} | {own / other:.2f} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
