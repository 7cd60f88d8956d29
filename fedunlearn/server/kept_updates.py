"""What the server keeps of single clients while the federation trains, for methods that replay or subtract it.

Models in the run's store, named by digest in the row of their round: a change is found, and erasing finds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from fedunlearn.server.model_store import ModelStore
from fedunlearn.strategies.aggregation import weight_of
from fedunlearn.strategies.method import methods, training_hook
from fedunlearn.strategies.reception import Answer

KEPT = "kept_updates"
"""In a round's metrics: client -> {"digest", "weight"} of what it sent."""


def rounds_between(prepared_for: Iterable[str]) -> int:
    """The smallest number of rounds after which one of the named methods has updates kept; 0: none has."""
    asked = [training_hook(methods.get(name)).keep_updates_every for name in prepared_for]
    return min((every for every in asked if every), default=0)


class UpdateKeeper:
    """Stores the answers of every k-th round, the first included, as they come, and names them for the ledger.

    Args:
        models: where they are stored.
        every: k; 0: nothing is kept.
    """

    def __init__(self, models: ModelStore, every: int) -> None:
        self._models = models
        self._every = every
        self._kept: dict[int, dict[str, dict[str, Any]]] = {}

    def keep(self, number: int, answer: Answer) -> None:
        """Store one answer of round `number`, if that is a round of which answers are kept."""
        if not self._every or (number - 1) % self._every:
            return
        # A copy: arrays that came in a message are read-only, and safetensors wants memory of its own.
        digest = self._models.save({name: torch.from_numpy(array.copy()) for name, array in answer.arrays.items()})
        weight = weight_of(answer.metrics, f"client {answer.client}")
        self._kept.setdefault(number, {})[str(answer.client)] = {"digest": digest, "weight": weight}

    def named(self, number: int) -> dict[str, Any]:
        """What the round's metrics say of it; nothing where nothing was kept."""
        kept = self._kept.pop(number, None)
        return {KEPT: kept} if kept else {}


def kept_digests(row: Mapping[str, Any]) -> dict[int, str]:
    """Client -> digest of what was kept of it, out of a round's row in the ledger."""
    kept = (row.get("metrics") or {}).get(KEPT) or {}
    return {int(client): str(one["digest"]) for client, one in kept.items()}
