"""The tries of a benchmark's tuning as rows for CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

HEADS = ("cell", "method", "try", "changes", "distance_mean", "distance_deviation", "requests", "cannot", "chosen")


def tries_csv(tuning: Mapping[str, Any]) -> str:
    """One row a cell, method and try: changes as JSON, distance to retrained over the validation requests.

    Args:
        tuning: as `results.json` has it.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, HEADS, lineterminator="\n")
    writer.writeheader()
    for cell, contenders in tuning["cells"].items():
        for name, tries in contenders.items():
            for one in tries:
                distance = one["distance"] or {}
                writer.writerow(
                    {
                        "cell": cell,
                        "method": name,
                        "try": one["number"],
                        "changes": json.dumps(one["changes"], sort_keys=True),
                        "distance_mean": distance.get("mean"),
                        "distance_deviation": distance.get("deviation"),
                        "requests": distance.get("count", 0),
                        "cannot": "; ".join(f"seed {seed}: {why}" for seed, why in one["cannot"].items()),
                        "chosen": int(one["chosen"]),
                    }
                )
    return text.getvalue()
