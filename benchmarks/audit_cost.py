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
from table_file import show

from fedunlearn.benchmark import choose_client
from fedunlearn.federation import Federation
from fedunlearn.server.band import STANDARD
from fedunlearn.server.branches import MAIN


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


def measure(federation: Federation) -> dict[str, float]:
    """Seconds by what they were spent on."""
    federation.train()
    rounds = federation._session().ledger.rounds(MAIN)
    request = federation.request_deletion(client=choose_client("largest", federation.settings))
    federation.unlearn(request)

    def audit(tier: str) -> float:
        return seconds(lambda: federation.audit(request, tier, processes=1, restore=False))

    found = {"a round of training": sum(row.seconds for row in rounds) / len(rounds), "quick": audit("quick")}
    found["standard, a model of a band to be retrained"] = audit("standard") / STANDARD
    found["standard, a model of a band that is there"] = audit("standard") / STANDARD
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
        run = Path(folder) / "run"
        settings = {"local_epochs": arguments.local_epochs, "workers": 0, "cohort": 1}
        federation = Federation.simulate(arguments.task, **settings, out=run)
        found, made = measure(federation), federation.settings
    pairs = (
        ("quick", "a round of training"),
        ("standard, a model of a band that is there", "retraining once"),
        ("standard, a model of a band to be retrained", "retraining once"),
    )
    versions = ", ".join(f"{name} {version(name)}" for name in ("fedunlearn", "torch"))
    lines = [
        f"The largest of {made.clients} clients leaves (task {made.task}, {made.local_epochs} local epochs, "
        f"{made.rounds} rounds);",
        f"wall seconds, one process; {versions}, Python {platform.python_version()}.",
        "",
        "| audit | s | beside | s | ratio |",
        "|---|---:|---|---:|---:|",
    ]
    for audit, beside in pairs:
        own, other = found[audit], found[beside]
        lines.append(f"| {audit} | {own:.2f} | {beside} | {other:.2f} | {own / other:.2f} |")
    show(lines, arguments.out)


if __name__ == "__main__":
    main()
