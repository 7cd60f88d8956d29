"""Which worker gets which message next: the one that holds the client's data, the longest first, none left idle."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

Client = Hashable

SHORT_SECONDS = 0.01
"""A worker that has less than this to do is given more, up to twice as much."""
MOST_AT_ONCE = 16
"""Messages that a worker is given at once; what it was given, no other worker can take over."""


class Lengths:
    """How long clients take, learnt from their replies: by number of samples where it is known, else as last time."""

    def __init__(self) -> None:
        self._samples: dict[Client, float] = {}
        self._seconds: dict[tuple[str, Client], float] = {}
        self._rates: dict[str, tuple[float, float]] = {}
        self._means: dict[str, tuple[float, int]] = {}

    def note(self, client: Client, kind: str, seconds: float, samples: float | None) -> None:
        """A client took `seconds` for a message of `kind`; `samples` as it said, None if it did not."""
        self._seconds[kind, client] = seconds
        total, count = self._means.get(kind, (0.0, 0))
        self._means[kind] = total + seconds, count + 1
        if samples is not None and samples > 0:
            self._samples[client] = samples
            spent, seen = self._rates.get(kind, (0.0, 0.0))
            self._rates[kind] = spent + seconds, seen + samples

    def expected(self, client: Client, kind: str) -> float | None:
        """Seconds that a client will take; as others do when it is new, None when nothing is known."""
        samples, rate = self._samples.get(client), self._rates.get(kind)
        if samples is not None and rate is not None:
            return samples * rate[0] / rate[1]
        last = self._seconds.get((kind, client))
        if last is not None:
            return last
        total, count = self._means.get(kind, (0.0, 0))
        return total / count if count else None


@dataclass(slots=True)
class _Entry:
    """A message that no worker has yet."""

    position: int
    client: Client
    kind: str
    seconds: float | None


class Schedule:
    """The messages of one exchange that are to be given out.

    A client's messages are given out one after the other, in their order. As long as more messages are to come than
    can be held, they go in their order, so that replies can be passed on; then the longest go first.

    Args:
        workers: number of workers (>= 1).
        lengths: how long clients take.
        homes: client -> the worker that served it last, and so has its data; kept up to date here.
    """

    def __init__(self, workers: int, lengths: Lengths, homes: dict[Client, int]) -> None:
        self._lengths = lengths
        self._homes = homes
        # One queue a worker, and one of clients that no worker has served.
        self._queues: list[list[tuple[float, int]]] = [[] for _ in range(workers + 1)]
        self._waiting: dict[int, _Entry] = {}
        self._chains: dict[Client, deque[_Entry]] = {}
        self._given: dict[int, _Entry] = {}
        self._longest_first = False

    def __len__(self) -> int:
        """Messages that could be given out now."""
        return len(self._waiting)

    def add(self, position: int, client: Client, kind: str) -> None:
        """A message to a client, the `position`-th of the exchange."""
        entry = _Entry(position, client, kind, self._lengths.expected(client, kind))
        if client in self._chains:
            self._chains[client].append(entry)
        else:
            self._chains[client] = deque()
            self._enqueue(entry)

    def all_are_here(self) -> None:
        """No further message comes: from now on the longest go first."""
        if not self._longest_first:
            self._longest_first = True
            waiting = list(self._waiting.values())
            for queue in self._queues:
                queue.clear()
            for entry in waiting:
                self._enqueue(entry)

    def take(self, worker: int, seconds: float | None, most: int = MOST_AT_ONCE, from_others: bool = True) -> list[int]:
        """Positions of the messages that `worker` gets: one if there is any, then more up to about `seconds` of work.

        Args:
            worker: number of the worker.
            seconds: None: any amount of work.
            most: messages.
            from_others: whether it may have messages to clients of another worker, up to half of them, when there are
                none for itself.
        """
        taken: list[int] = []
        left = seconds
        queues = [self._queues[worker], self._queues[-1]]
        if not any(queues) and from_others:
            queues = [self._longest_queue()]
            most = min(most, max(1, len(queues[0]) // 2))
        while any(queues) and len(taken) < most and (left is None or left > 0 or not taken):
            _, position = heapq.heappop(min((queue for queue in queues if queue), key=lambda queue: queue[0]))
            entry = self._given[position] = self._waiting.pop(position)
            if left is not None:
                # What it will take is not known, so that the others are left to whoever is free then.
                left = left - entry.seconds if entry.seconds is not None else 0.0
            self._homes[entry.client] = worker
            taken.append(position)
        return taken

    def finished(self, position: int) -> None:
        """The reply to a message is there, or nobody waits for it: the client's next one can be given out."""
        entry = self._given.pop(position)
        chain = self._chains[entry.client]
        if chain:
            self._enqueue(chain.popleft())
        else:
            del self._chains[entry.client]

    def give_back(self, position: int) -> None:
        """The worker that had a message is gone: another one gets it, and the data with it."""
        entry = self._given.pop(position)
        self._homes.pop(entry.client, None)
        self._enqueue(entry)

    def expected(self, position: int) -> float | None:
        """Seconds that a message which was given out is expected to take."""
        return self._given[position].seconds

    def _enqueue(self, entry: _Entry) -> None:
        home = self._homes.get(entry.client, len(self._queues))
        queue = self._queues[home] if home < len(self._queues) - 1 else self._queues[-1]
        self._waiting[entry.position] = entry
        key = -(entry.seconds or 0.0) if self._longest_first else float(entry.position)
        heapq.heappush(queue, (key, entry.position))

    def _longest_queue(self) -> list[tuple[float, int]]:
        """The queue of the worker that has most to do: a worker without work takes from it."""

        def work(queue: list[tuple[float, int]]) -> tuple[float, int]:
            return sum(self._waiting[position].seconds or 0.0 for _, position in queue), len(queue)

        return max(self._queues, key=work)
