"""What it costs to start: `import fedunlearn` and `fedunlearn --help`, each in a fresh interpreter.

    python benchmarks/start_up.py [--repetitions 5] [--out benchmarks/results/start_up.md]

Wall seconds, median and least.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

from table_file import show

COMMANDS = {
    "python -c 'pass', for comparison": [sys.executable, "-c", "pass"],
    "import fedunlearn": [sys.executable, "-c", "import fedunlearn"],
    "fedunlearn --help": [sys.executable, "-c", "from fedunlearn.cli import main; main()", "--help"],
}


def seconds_of(command: list[str], repetitions: int) -> list[float]:
    """Wall seconds of each run. Raises CalledProcessError when one fails."""
    taken = []
    for _ in range(repetitions):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - started)
    return taken


def main() -> None:
    """Measure every command and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    lines = [
        f"Wall seconds in a fresh interpreter, {arguments.repetitions} runs; Python {platform.python_version()}.",
        "",
        "| command | median, s | least, s |",
        "|---|---:|---:|",
    ]
    for name, command in COMMANDS.items():
        taken = seconds_of(command, arguments.repetitions)
        lines.append(f"| `{name}` | {statistics.median(taken):.2f} | {min(taken):.2f} |")
    show(lines, arguments.out)


if __name__ == "__main__":
    main()
