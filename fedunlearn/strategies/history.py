"""What a server keeps of the rounds of training, for methods that replay or subtract it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True)
class StoredUpdate:
    """What one client sent in a round.

    Attributes:
        client: its id.
        weight: how many samples it stands for.
        model: its model after its local training.
    """

    client: int
    weight: float
    model: dict[str, torch.Tensor]


class History(Protocol):
    """Rounds of which the server kept every client's update. Models are read when they are asked for."""

    def rounds(self) -> Sequence[int]:
        """Their numbers, ascending; none where nothing was kept."""
        ...

    def lacking(self, every: int) -> str:
        """Why it cannot stand for the whole training, kept every so many rounds: the end of a sentence; "": it can."""
        ...

    def model(self, number: int) -> dict[str, torch.Tensor]:
        """The global model that was sent in that round. Raises CorruptModel where it is gone."""
        ...

    def updates(self, number: int) -> Iterator[StoredUpdate]:
        """What the clients sent back, in the order of their ids. Raises CorruptModel where one is gone."""
        ...


class _NoHistory:
    """Nothing was kept."""

    def rounds(self) -> Sequence[int]:
        """None."""
        return ()

    def lacking(self, every: int) -> str:
        """Nothing is there."""
        return "this run kept none"

    def model(self, number: int) -> dict[str, torch.Tensor]:
        """There is none."""
        raise KeyError(number)

    def updates(self, number: int) -> Iterator[StoredUpdate]:
        """There is none."""
        raise KeyError(number)


NO_HISTORY: History = _NoHistory()
