"""The benchmark's own arithmetic: medians of medians, ratios, the order in which contenders take turns."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def turns(contenders: Sequence[str], repetitions: int) -> Iterator[tuple[int, str]]:
    """Every contender once a repetition; each repetition begins with another one, so that none is always first."""
    for repetition in range(repetitions):
        start = repetition % len(contenders) if contenders else 0
        for name in [*contenders[start:], *contenders[:start]]:
            yield repetition, name


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """One contender's figures in one job.

    Args:
        runs: what its processes answered: "rounds" (seconds of each measured round), "start_up", "peak" (bytes).

    Returns:
        "round": median over the processes of their median round, in seconds; "least" and "most" of these medians;
        "start_up": median, seconds; "peak": the largest, bytes; "processes": how many there were.
    """
    medians = [statistics.median(run["rounds"]) for run in runs]
    return {
        "round": statistics.median(medians),
        "least": min(medians),
        "most": max(medians),
        "start_up": statistics.median(run["start_up"] for run in runs),
        "peak": float(max(run["peak"] for run in runs)),
        "processes": len(runs),
    }


def ratios(summaries: Mapping[str, Mapping[str, float]], subject: str) -> dict[str, float]:
    """Every contender's round time divided by the subject's: above 1, the subject is quicker."""
    own = summaries[subject]["round"]
    return {name: figures["round"] / own for name, figures in summaries.items() if name != subject}


def per_message(seconds: float, clients: int) -> float:
    """Milliseconds a message of a round."""
    return 1000.0 * seconds / clients
