"""Data sources by name: `load_dataset("mnist5k", seed=0)`.

A source is a callable `seed -> Dataset`; the seed decides the split where the data comes without one.
"""

from __future__ import annotations

from functools import lru_cache

from fedunlearn.data.dataset import Dataset
from fedunlearn.data.identity import ByIdentity, hashable
from fedunlearn.data.sources import packaged, tables, vision
from fedunlearn.data.sources.image_folder import PREFIX, load_image_folder
from fedunlearn.data.sources.registered import Source, sources
from fedunlearn.errors import DataError, FedunlearnError

__all__ = ["Source", "load_dataset", "packaged", "sources", "tables", "vision"]


def load_dataset(source: str | Source, seed: int) -> Dataset:
    """A data set, split with `seed`; kept in memory, so that all clients of a process share one object.

    Args:
        source: its name ("mnist5k", "images:PATH", …), or a source itself.

    Raises:
        UnknownName: there is no such source.
        DataError: its data is missing or cannot be used.
    """
    return _loaded(hashable(source), seed)


@lru_cache(maxsize=4)
def _loaded(source: str | Source | ByIdentity[Source], seed: int) -> Dataset:
    if isinstance(source, ByIdentity):
        source = source.item
    if not isinstance(source, str):
        return _own(source, seed)
    if source.startswith(PREFIX):
        return load_image_folder(source.removeprefix(PREFIX), seed)
    return sources.get(source)(seed)


def _own(source: Source, seed: int) -> Dataset:
    name = getattr(source, "__name__", type(source).__name__)
    try:
        dataset = source(seed)
    except FedunlearnError:
        raise
    except Exception as error:  # whatever a source of the user's raises
        raise DataError(
            f"the data source {name} failed ({type(error).__name__}: {error}); call it with a seed to see where."
        ) from error
    if not isinstance(dataset, Dataset):
        raise DataError(
            f"the data source {name} gave a {type(dataset).__name__}; have it return a fedunlearn.data.dataset.Dataset."
        )
    return dataset
