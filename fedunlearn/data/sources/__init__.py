"""Data sources by name: `load_dataset("mnist5k", seed=0)`.

A source is a callable `seed -> Dataset`; the seed decides the split where the data comes without one.
"""

from __future__ import annotations

from functools import lru_cache

from fedunlearn.data.dataset import Dataset
from fedunlearn.data.sources import packaged, tables, vision
from fedunlearn.data.sources.image_folder import PREFIX, load_image_folder
from fedunlearn.data.sources.registered import Source, sources

__all__ = ["Source", "load_dataset", "packaged", "sources", "tables", "vision"]


@lru_cache(maxsize=4)
def load_dataset(source: str | Source, seed: int) -> Dataset:
    """A data set, split with `seed`; kept in memory, so that all clients of a process share one object.

    Args:
        source: its name ("mnist5k", "images:PATH", …), or a source itself.

    Raises:
        UnknownName: there is no such source.
        DataError: its data is missing or cannot be used.
    """
    if not isinstance(source, str):
        return source(seed)
    if source.startswith(PREFIX):
        return load_image_folder(source.removeprefix(PREFIX), seed)
    return sources.get(source)(seed)
