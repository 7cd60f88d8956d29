"""How the ratio that is read off compares with fixed ones, out of what `ratio-mnist5k` gave.

    python experiments/ratio_gap.py [RESULTS.json] [--out experiments/results/ratio-mnist5k/gap.md]

Mean distance to the retrained model (the benchmark's own) over all valid runs; void runs count nowhere.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
AUTO = "unlearned"


def gaps(results: dict[str, Any]) -> tuple[dict[str, float], int]:
    """Mean distance to retrained of the method and of each fixed ratio, over the valid runs; and how many those are."""
    sums: dict[str, float] = {}
    runs = 0
    for cell in results["cells"]:
        count = len(cell["seeds"])
        runs += count
        for name, model in cell["models"].items():
            if name == AUTO or name.startswith("ratio-"):
                sums[name] = sums.get(name, 0.0) + count * model["distance_to_retrained"]["mean"]
    return {name: total / runs for name, total in sums.items()}, runs


def table(results: dict[str, Any]) -> str:
    """The comparison as Markdown, the answer below it."""
    means, runs = gaps(results)
    best = min((name for name in means if name != AUTO), key=means.__getitem__)
    lines = [f"Mean distance to retrained over {runs} valid runs.", "", "| ratio | mean distance |", "|---|---:|"]
    lines += [f"| {name.replace(AUTO, 'auto')} | {mean:.4f} |" for name, mean in means.items()]
    lines += ["", f"auto is {means[AUTO] / means[best]:.2f} times the best fixed ratio ({best})."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=HERE / "results/ratio-mnist5k/results.json")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    text = table(json.loads(arguments.results.read_text(encoding="utf-8")))
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
