"""The registry of data sources; packages add theirs under the entry-point group `fedunlearn.sources`."""

from __future__ import annotations

from collections.abc import Callable

from fedunlearn.data.dataset import Dataset
from fedunlearn.registry import Registry

Source = Callable[[int], Dataset]

sources: Registry[Source] = Registry("data source", group="fedunlearn.sources")
