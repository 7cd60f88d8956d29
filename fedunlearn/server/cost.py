"""What a branch cost, read from its ledger rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fedunlearn.server.ledger_tables import PhaseRow, RoundRow


def cost_of(rounds: Iterable[RoundRow], phases: Iterable[PhaseRow], model_bytes: int) -> dict[str, Any]:
    """Rounds, client epochs, bytes each way, attribution and wall time.

    "bytes_up" and "bytes_down" are the payload of training and query messages; evaluation is on neither side.
    "bytes_with_base" adds the whole model once for every client that was sent a part of it.

    Args:
        model_bytes: payload of the whole model.
    """
    rounds, phases = list(rounds), list(phases)
    up = down = 0
    partly: set[str] = set()
    everything: list[RoundRow | PhaseRow] = [*rounds, *phases]
    for row in everything:
        for message, clients in row.bytes.items():
            for client, count in clients.items():
                up += count["up"]
                down += count["down"]
                if message.startswith("train") and 0 < count["down"] < model_bytes:
                    partly.add(client)
    return {
        "rounds": len(rounds),
        "client_epochs": _client_epochs([*(r.metrics for r in rounds), *(p.result for p in phases)]),
        "bytes_up": up,
        "bytes_down": down,
        "bytes_with_base": up + down + model_bytes * len(partly),
        "seconds": sum(row.seconds for row in everything),
        "attribution_seconds": sum(_client_seconds(row.result) for row in phases if "query" in row.name),
    }


def _client_epochs(results: Iterable[Mapping[str, Any]]) -> float:
    """Mean local passes over a participant's data."""
    total: dict[str, float] = {}
    for result in results:
        for client, count in result.get("passes", {}).items():
            total[client] = total.get(client, 0.0) + count
    trained = [count for count in total.values() if count]
    return sum(trained) / len(trained) if trained else 0.0


def _client_seconds(result: Mapping[str, Any]) -> float:
    return sum(float(seconds) for seconds in result.get("client_seconds", {}).values())
