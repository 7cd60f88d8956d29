"""Flower records as plain JSON, with their arrays beside it: written into a block, mapped on the other side."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedunlearn.engines.blocks import offsets_of
from fedunlearn.engines.flower_compat import fill
from fedunlearn.errors import FedunlearnError
from fedunlearn.flower_arrays import NUMPY, LiveArray, view

Shape = tuple[int, ...]
Entry = tuple[str, str, str, Shape, int]
"""Of one array: its key, "" or the serialisation of an array that is not numpy's, type, shape, bytes."""
Identity = tuple[object, ...]
Known = Callable[[ArrayRecord], list[Any] | None]


@dataclass(frozen=True)
class Layout:
    """What the arrays of a record are, without their numbers, and where each is in the record's bytes."""

    entries: tuple[Entry, ...]
    offsets: tuple[int, ...]
    size: int

    @staticmethod
    def of(entries: tuple[Entry, ...]) -> Layout:
        """The layout of arrays that lie one after the other."""
        offsets, size = offsets_of([entry[4] for entry in entries])
        return Layout(entries, tuple(offsets), size)

    @staticmethod
    def read(plain: list[Any]) -> Layout:
        """The layout that came as JSON."""
        return Layout.of(tuple((key, other, kind, tuple(shape), size) for key, other, kind, shape, size in plain))

    def record(self, memory: np.ndarray | None, start: int) -> ArrayRecord:
        """The record whose bytes are in `memory` from `start` on; its arrays are views, and read-only."""
        arrays = {}
        for (key, other, kind, shape, size), offset in zip(self.entries, self.offsets, strict=True):
            begin = start + offset
            if other:
                data = b"" if memory is None else memory[begin : begin + size].tobytes()
                arrays[key] = Array(kind, shape, other, data)
            elif size == 0 or memory is None:
                arrays[key] = LiveArray(np.empty(shape, kind))
            else:
                arrays[key] = LiveArray(np.ndarray(shape, kind, memory, begin))
        return fill(ArrayRecord(), arrays)


def flat(record: ArrayRecord) -> tuple[tuple[Entry, ...], list[np.ndarray]]:
    """The entries of a record's layout, and its arrays as they are to be written."""
    entries, arrays = [], []
    for key, array in record.items():
        numbers = _numbers(array)
        if numbers is None:
            # Whatever it is, it goes over byte by byte.
            numbers = np.frombuffer(array.data, dtype=np.uint8)
            entries.append((key, array.stype, array.dtype, tuple(array.shape), numbers.nbytes))
        else:
            entries.append((key, "", numbers.dtype.str, numbers.shape, numbers.nbytes))
        arrays.append(numbers)
    return tuple(entries), arrays


def _numbers(array: Array) -> np.ndarray | None:
    """The array's numbers, where their type, shape and order can be told in a layout."""
    if isinstance(array, LiveArray):
        numbers = array.live
    elif array.stype != NUMPY:
        return None
    else:
        try:
            numbers = view(array)
        except FedunlearnError:
            return None
    return numbers if numbers.flags.c_contiguous and numbers.dtype.fields is None else None


def identity(record: ArrayRecord) -> Identity:
    """Equal for two records, as long as both live, exactly when they hold the same array objects, equally named."""
    arrays = record.__dict__["_data"]
    return (*arrays, *map(id, arrays.values()))


class Parcel:
    """Collects the arrays of what is sent in one frame.

    Args:
        layouts: layout -> its number, of those that the other side knows or will know; shared by all parcels of a
            channel.
    """

    def __init__(self, layouts: dict[tuple[Entry, ...], int]) -> None:
        self._layouts = layouts
        self.arrays: list[np.ndarray] = []
        self.offsets: list[int] = []
        self.size = 0
        self.new_layouts: list[tuple[int, tuple[Entry, ...]]] = []

    def add(self, records: RecordDict, known: Known | None = None) -> list[list[Any]]:
        """The records as JSON; `known` says as what the other side has a record already."""
        plain: list[list[Any]] = []
        for name, record in records.items():
            if isinstance(record, ArrayRecord):
                there = known(record) if known else None
                plain.append([name, "known", there] if there else [name, "arrays", *self._packed(record)])
            elif isinstance(record, MetricRecord):
                plain.append([name, "metrics", record.__dict__["_data"]])
            else:
                plain.append([name, "config", {key: _plain(value) for key, value in record.items()}])
        return plain

    def _packed(self, record: ArrayRecord) -> tuple[int, int]:
        entries, arrays = flat(record)
        number = self._layouts.get(entries)
        if number is None:
            number = self._layouts[entries] = len(self._layouts)
            self.new_layouts.append((number, entries))
        start = self.size
        offsets, size = offsets_of([array.nbytes for array in arrays])
        self.arrays += arrays
        self.offsets += [start + offset for offset in offsets]
        self.size += size
        return number, start


def unpacked(
    plain: list[list[Any]],
    layouts: Mapping[int, Layout],
    memory: np.ndarray | None,
    known: Callable[[str, Any], ArrayRecord],
) -> RecordDict:
    """The records that `Parcel.add` described.

    Args:
        layouts: number -> layout, as the sender numbered them.
        memory: where the frame's arrays are.
        known: gives the record that the sender's `known` refers to; it is handed out as a copy around the same arrays.
    """
    records: dict[str, Any] = {}
    for name, kind, *what in plain:
        if kind == "arrays":
            records[name] = layouts[what[0]].record(memory, what[1])
        elif kind == "known":
            records[name] = known(*what[0]).copy()
        elif kind == "metrics":
            records[name] = fill(MetricRecord(), what[0])
        else:
            records[name] = fill(ConfigRecord(), {key: _rich(value) for key, value in what[0].items()})
    return fill(RecordDict(), records)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, list) and value and isinstance(value[0], bytes):
        return {"list": [base64.b64encode(one).decode() for one in value]}
    return value


def _rich(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "bytes" in value:
        return base64.b64decode(value["bytes"])
    return [base64.b64decode(one) for one in value["list"]]
