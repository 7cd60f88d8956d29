"""Sites of one process, as many as a number of bytes holds: a client's data is loaded once where it is served."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class BoundedCache(Generic[T]):
    """Keeps what was made last, the longest unused dropped first, within a budget; the newest is always kept.

    Args:
        budget: bytes.
        size: bytes of one of them.
    """

    def __init__(self, budget: int, size: Callable[[T], int]) -> None:
        self._budget = budget
        self._size = size
        self._kept: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes = 0
        """Of what is kept."""

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made for `key`, or what `make()` returns now."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
        # Outside the lock: a client that was left behind may be making its own.
        made = make()
        with self._lock:
            if key in self._kept:
                return self._kept[key][0]
            self._kept[key] = made, self._size(made)
            self.bytes += self._kept[key][1]
            while self.bytes > self._budget and len(self._kept) > 1:
                _, (_, freed) = self._kept.popitem(last=False)
                self.bytes -= freed
        return made
