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
def load_dataset(name: str, seed: int) -> Dataset:
    """The data set called `name` ("mnist5k", "images:PATH", …), split with `seed`; kept in memory.

    Raises:
        UnknownName: there is no such source.
        DataError: its data is missing or cannot be used.
    """
    if name.startswith(PREFIX):
        return load_image_folder(name.removeprefix(PREFIX), seed)
    return sources.get(name)(seed)
