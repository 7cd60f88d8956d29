"""Flower arrays without copies: one that keeps a live numpy array, and a view of any other's bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord

from fedunlearn.errors import CorruptModel

NUMPY = "numpy.ndarray"
"""Flower's name for arrays whose bytes are those of `numpy.save`."""

# Magic, version and the two bytes of the header's length in version 1.0, the only one that plain arrays need.
_MAGIC, _PREFIX = b"\x93NUMPY\x01\x00", 10
_LONGEST_HEADER = 1024


class LiveArray(Array):
    """A Flower array around a numpy array; the bytes of `numpy.save` are made only if `data` is read.

    Nothing is copied: whoever makes one does not change `array` afterwards. What leaves the process (pickled, or
    deflated by a deployment) is an ordinary Flower array.
    """

    def __init__(self, array: np.ndarray) -> None:
        live = np.asarray(array, order="C").view()
        live.setflags(write=False)
        # Past Flower's `__setattr__`, which marks an array as changed at every one of these.
        self.__dict__.update(dtype=_name(live.dtype), shape=live.shape, stype=NUMPY, _live=live)

    @property
    def live(self) -> np.ndarray:
        """The array itself, read-only."""
        return self.__dict__["_live"]

    @property
    def data(self) -> bytes:  # type: ignore[override]
        """The bytes that Flower sends, made anew at every reading."""
        buffer = BytesIO()
        np.save(buffer, self.live, allow_pickle=False)
        return buffer.getvalue()

    def numpy(self) -> np.ndarray:
        """A copy that may be written to, as of any Flower array; `view` makes none."""
        return self.live.copy()

    def plain(self) -> Array:
        """The same array as Flower itself makes it."""
        return Array(self.dtype, self.shape, self.stype, self.data)

    def slice_array(self) -> list[tuple[str, Any]]:
        """Flower's chunks of the bytes."""
        if "_chunks" not in self.__dict__:
            self.__dict__["_chunks"] = self.plain().slice_array()
        chunks: list[tuple[str, Any]] = self.__dict__["_chunks"]
        return chunks

    def deflate(self) -> bytes:
        """The bytes of an ordinary Flower array: the receiver looks its class up by name."""
        plain = self.plain()
        plain.__dict__["_chunks"] = self.slice_array()
        return plain.deflate()

    def __repr__(self) -> str:
        return f"LiveArray({self.dtype}, {self.shape})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Array, (self.dtype, self.shape, self.stype, self.data)


def view(array: Array) -> np.ndarray:
    """The numbers of a Flower array as a read-only numpy array over the same memory.

    Raises CorruptModel if its bytes are not those that `numpy.save` writes of an array of its type and shape.
    """
    if isinstance(array, LiveArray):
        return array.live
    data = array.data
    length = _PREFIX + int.from_bytes(data[8:_PREFIX], "little")
    header = _header(data[:length]) if data[:8] == _MAGIC and length <= _LONGEST_HEADER else None
    if array.stype != NUMPY or header is None or header[:2] != (array.dtype, tuple(array.shape)):
        raise _corrupt(array)
    _, shape, order, kind, count = header
    if len(data) - length != count * kind.itemsize:
        raise _corrupt(array)
    if not count:
        numbers = np.empty(shape, kind)
        numbers.setflags(write=False)
        return numbers
    return np.frombuffer(data, kind, count, length).reshape(shape, order=order)


def views(record: ArrayRecord) -> dict[str, np.ndarray]:
    """`view` of each array of a record, by name."""
    return {
        name: array.__dict__["_live"] if array.__class__ is LiveArray else view(array) for name, array in record.items()
    }


def bytes_of(record: ArrayRecord) -> int:
    """Bytes of the numbers in a record's arrays."""
    return sum(
        [
            array.__dict__["_live"].nbytes if array.__class__ is LiveArray else _bytes(array.dtype, *array.shape)
            for array in record.values()
        ]
    )


def live_record(arrays: Mapping[str, np.ndarray]) -> ArrayRecord:
    """Arrays by name as a Flower record that shares their memory: they must not be changed afterwards."""
    record = ArrayRecord()
    # Past the record's constructor, which would make bytes of each, and its check of every item.
    record.__dict__["_data"].update({name: LiveArray(array) for name, array in arrays.items()})
    return record


@lru_cache(maxsize=64)
def _name(dtype: np.dtype) -> str:
    return str(dtype)  # numpy takes longer for it than for everything else here


@lru_cache(maxsize=4096)
def _bytes(dtype: str, *shape: int) -> int:
    return math.prod(shape) * np.dtype(dtype).itemsize


@lru_cache(maxsize=4096)
def _header(prefix: bytes) -> tuple[str, tuple[int, ...], Any, np.dtype, int] | None:
    """Type's name, shape, order, type and number of values that a `numpy.save` header states; None if it is none."""
    stream = BytesIO(prefix[8:])
    try:
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    except ValueError:
        return None
    if dtype.hasobject:
        return None
    count = 1
    for size in shape:
        count *= size
    return str(dtype), shape, "F" if fortran else "C", dtype, count


def _corrupt(array: Array) -> CorruptModel:
    return CorruptModel(
        f"an array came as {len(array.data)} bytes of {array.stype!r}: expected the bytes that numpy saves for "
        f"{array.dtype} {tuple(array.shape)}; send it as a flwr.app.Array made of a numpy array."
    )
