"""Cache keys for what cannot be hashed: an object is itself, whatever it contains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class ByIdentity(Generic[T]):
    """A key that equals only one of the same object; it keeps the object alive, so that its identity stays its own."""

    item: T

    def __hash__(self) -> int:
        return id(self.item)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByIdentity) and other.item is self.item


def hashable(item: T) -> T | ByIdentity[T]:
    """The item, or where it has no hash a key by its identity."""
    try:
        hash(item)
    except TypeError:
        return ByIdentity(item)
    return item
