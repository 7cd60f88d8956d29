"""How many clients are trained together: what was measured of an architecture, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Literal

Size = int | Literal["auto"]

LARGEST = 16
"""Clients that "auto" trains together at most: beyond it their tensors leave the processor's cache."""
SMALLEST_OVERHEAD = 0.2
"""Below this share of a step that does not depend on the batch size, a cohort has too little to save to be tried."""
WORTH = 0.95
"""A cohort is used when it takes at most this share of the time of single clients."""
WIDTHS = (4, 8)
"""Numbers of clients that are tried before as many as there are."""
TRIALS = 3
"""Full batches that are computed both ways to know one number of clients; the first also warms up."""
BATCHES_FOR_TRIAL = 8
"""Full batches that clients must still have together before their number is tried out."""
HOPELESS = 1.2
"""A number of clients that takes this much longer than single ones leaves no hope for more."""


@dataclass
class Choice:
    """What is known of one architecture, batch size and recipe.

    Attributes:
        refused: why its clients are never trained together; None as long as nothing speaks against it.
        begun: whether it was looked at at all.
        alone: seconds of one client's step by itself, the least seen.
        trials: number of clients -> seconds of one client's step in their midst, a figure for each trial; infinite
            where the result was not that of single clients, bit for bit.
    """

    refused: str | None = None
    begun: bool = False
    alone: float = math.inf
    trials: dict[int, list[float]] = field(default_factory=dict)

    def together(self, clients: int) -> float | None:
        """Seconds of one client's step among so many; infinite if they must not be used, None if it is not known."""
        seconds = self.trials.get(clients, [])
        if math.inf in seconds:
            return math.inf
        return min(seconds) if len(seconds) >= TRIALS else None

    def next_trial(self, active: int, size: Size, lasting: int) -> int | None:
        """The number of clients to try next; None when enough is known.

        Args:
            active: clients that have a full batch.
            lasting: those of them that still have `BATCHES_FOR_TRIAL` of them, and more.
        """
        limit = LARGEST if size == "auto" else size
        largest = min(lasting, limit)
        if self.refused is not None:
            return None
        for clients in self.trials:
            if self.together(clients) is None and clients <= min(active, limit):
                return clients
        if largest < 2:
            return None
        for clients in sorted({w for w in WIDTHS if w < largest and size == "auto"} | {largest}):
            seconds = self.together(clients)
            if seconds is None:
                return clients
            # More clients save more of the overhead, until they no longer fit into the cache.
            if size == "auto" and seconds > HOPELESS * self.alone:
                return None
        return None

    def widths(self, active: int, size: Size) -> list[int]:
        """How many clients to train at once, group after group; who is left over trains alone."""
        known = {} if self.refused is not None else {clients: self.together(clients) for clients in self.trials}
        most = WORTH * self.alone if size == "auto" else math.inf
        usable = {clients: seconds for clients, seconds in known.items() if seconds is not None and seconds < most}
        groups: list[int] = []
        limit = active if size == "auto" else min(active, size)
        while fitting := [clients for clients in usable if clients <= min(active, limit)]:
            groups.append(min(fitting, key=usable.__getitem__) if size == "auto" else max(fitting))
            active -= groups[-1]
        return groups

    def overhead_found(self, full: float, single: float) -> None:
        """Take note of the seconds of a step on a full batch and on one sample: what is common to both is overhead."""
        if single < SMALLEST_OVERHEAD * full:
            self.refused = f"a step is {1 - single / full:.0%} computing, of which a cohort saves nothing"


class Choices:
    """What a process has found out so far; an app keeps one."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Choice] = {}

    def of(self, key: Hashable) -> Choice:
        """What is known of `key`; it is added to as more is found out."""
        return self._known.setdefault(key, Choice())
