"""What arrays a reply may hold: names, types, shapes, and no byte more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from io import BytesIO

import numpy as np
from flwr.app import Array, ArrayRecord, Message

from fedunlearn.audit.counts import MINIMUM_SAMPLES
from fedunlearn.flower_arrays import LiveArray
from fedunlearn.strategies.content import ARRAYS

Judge = Callable[[str, Array], str | None]
"""Judges one array by name: what was expected of it, or None when it is fine."""


def no_array(name: str, array: Array) -> str | None:
    """Nothing passes."""
    return "no array at all"


def score_per_channel(channels: Mapping[str, int], classes: int) -> Judge:
    """Aggregates only: one float a channel under the layer's name, or one float a class under "classes"."""
    lengths = {"classes": classes, **channels}

    def judge(name: str, array: Array) -> str | None:
        if name not in lengths:
            return f"the name of a layer ({', '.join(channels)})"
        return _unlike(array, "float32", (lengths[name],))

    return judge


def score_per_class_and_channel(channels: Mapping[str, int], classes: int) -> Judge:
    """Aggregates only: a float a class and channel under the layer's name, or one a class under "classes"."""
    shapes = {"classes": (classes,), **{layer: (classes, count) for layer, count in channels.items()}}

    def judge(name: str, array: Array) -> str | None:
        if name not in shapes:
            return f"the name of a layer ({', '.join(channels)})"
        return _unlike(array, "float32", shapes[name])

    return judge


def feature_sums(classes: int, features: int) -> Judge:
    """Aggregates only: sums of features by class, each over 20 samples at least or zero, and beside them how many."""

    def judge(name: str, array: Array) -> str | None:
        if name != "classes":
            return "the one array 'classes'"
        wrong = _unlike(array, "float32", (classes, features + 1))
        if wrong:
            return wrong
        rows = array.numpy()
        counted = rows[:, -1]
        fine = (counted >= MINIMUM_SAMPLES) | ~rows.any(axis=1)
        return None if fine.all() else f"sums over {MINIMUM_SAMPLES} samples of a class at least, or zeros"

    return judge


def channel_indices(channels: Mapping[str, int]) -> Judge:
    """Sorted, distinct indices of channels that exist."""

    def judge(name: str, array: Array) -> str | None:
        if name not in channels:
            return f"the name of a layer ({', '.join(channels)})"
        expected = f"int32, sorted and distinct indices below {channels[name]}"
        if len(array.shape) != 1 or _unlike(array, "int32", tuple(array.shape)):
            return expected
        indices = array.numpy()
        inside = len(indices) == 0 or (indices[0] >= 0 and indices[-1] < channels[name])
        return None if inside and (np.diff(indices) > 0).all() else expected

    return judge


def counts_by_bin(name: str, bins: int, fewest: int) -> Judge:
    """One histogram, int32 (`bins`,), of `fewest` samples at least."""

    def judge(given: str, array: Array) -> str | None:
        expected = f"int32 ({bins},) under {name!r}, counts of {fewest} samples at least"
        if given != name or _unlike(array, "int32", (bins,)):
            return expected
        counts = array.numpy()
        return None if (counts >= 0).all() and counts.sum() >= fewest else expected

    return judge


def like_incoming(incoming: Message) -> Judge:
    """What may be sent is like what came down: same names, types and shapes."""
    sent = incoming.content.array_records.get(ARRAYS, ArrayRecord())

    def judge(name: str, array: Array) -> str | None:
        if name not in sent:
            return "only parameters that the server sent"
        return _unlike(array, str(sent[name].dtype), tuple(sent[name].shape))

    return judge


def _unlike(array: Array, dtype: str, shape: tuple[int, ...]) -> str | None:
    """What was expected, unless the array is its header and its numbers, with nothing carried along."""
    if type(array) is LiveArray:
        # Its bytes are made of the numbers when it is sent.
        live = array.live
        same = (array.dtype, array.shape, array.stype) == (dtype, shape, "numpy.ndarray")
        return None if same and _is(live, dtype, shape) else f"{dtype} {shape} and no byte more"
    header = _header(dtype, shape)
    size = len(header) + int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    fits = (
        (array.dtype, tuple(array.shape), array.stype) == (dtype, shape, "numpy.ndarray")
        and len(array.data) == size
        and array.data.startswith(header)
    )
    return None if fits else f"{dtype} {shape} and no byte more"


def _is(array: np.ndarray, dtype: str, shape: tuple[int, ...]) -> bool:
    return type(array) is np.ndarray and array.dtype == dtype and array.shape == shape


@lru_cache(maxsize=1024)
def _header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """What numpy writes before the numbers of such an array."""
    buffer = BytesIO()
    described = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(buffer, described)
    return buffer.getvalue()
