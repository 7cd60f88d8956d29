"""A registry: a dict and two functions, for the places where users plug in."""

from __future__ import annotations

import difflib
import sys
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from fedunlearn.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """Named items of one kind, joined by those that installed packages declare.

    Args:
        kind: what an item is, for error messages ("task", "method", …).
        group: entry-point group that other packages may declare items under; None for none.
    """

    def __init__(self, kind: str, group: str | None = None) -> None:
        self.kind = kind
        self._group = group
        self._items: dict[str, T] = {}
        self._registered_in: dict[str, str] = {}

    def register(self, name: str, item: T) -> T:
        """Add `item` under `name`. Raises ValueError when another item already has the name."""
        if self._items.setdefault(name, item) is not item:
            raise ValueError(f"{self.kind} {name!r} is registered twice; choose another name.")
        self._registered_in[name] = sys._getframe(1).f_globals.get("__name__", "__main__")
        return item

    def get(self, name: str) -> T:
        """The item called `name`. Raises UnknownName with the known names."""
        self._load_entry_points()
        if name in self._items:
            return self._items[name]
        near = difflib.get_close_matches(name, self._items, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownName(f"there is no {self.kind} called {name!r}; {hint}known: {', '.join(self.names())}.")

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        self._load_entry_points()
        return tuple(sorted(self._items))

    def modules(self) -> frozenset[str]:
        """Modules, other than this package's, that registered an item: another process has to import them as well.

        "__main__" is among them when a script or a notebook did.
        """
        modules = {module for name, module in self._registered_in.items() if name in self._items}
        return frozenset(module for module in modules if module.partition(".")[0] != "fedunlearn")

    def _load_entry_points(self) -> None:
        if self._group is None:
            return
        group, self._group = self._group, None
        for point in entry_points(group=group):
            self.register(point.name, point.load())
