"""Replies as they come: nothing is kept of what the reader has let go."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice

from flwr.app import Message

from fedunlearn.errors import FedunlearnError


class Replies:
    """The replies to some messages, in the order of the messages; each is got when it is asked for.

    Can be iterated over once. `len`, an index or a test for emptiness wait for as many as they need, and these are
    kept until they are read.
    """

    def __init__(self, source: Iterator[Message]) -> None:
        self._source = source
        self._kept: deque[Message] = deque()
        self._begun = False

    def __iter__(self) -> Iterator[Message]:
        if self._begun:
            raise FedunlearnError(
                "these replies have been read already and are not kept; make a list of them to read them twice."
            )
        self._begun = True
        return _Reading(self)

    def __len__(self) -> int:
        self.finish()
        return len(self._kept)

    def __bool__(self) -> bool:
        if not self._kept:
            self._kept.extend(islice(self._source, 1))
        return bool(self._kept)

    def __getitem__(self, index: int) -> Message:
        self.finish()
        return self._kept[index]

    def take(self) -> Message:
        """The next reply. Raises StopIteration after the last."""
        return self._kept.popleft() if self._kept else next(self._source)

    def finish(self) -> None:
        """Get all replies that have not been asked for yet, and keep them."""
        self._kept.extend(self._source)


class _Reading(Iterator[Message]):
    # Not a generator, which would keep the last reply until the next is asked for.
    def __init__(self, replies: Replies) -> None:
        self._replies = replies

    def __next__(self) -> Message:
        return self._replies.take()
