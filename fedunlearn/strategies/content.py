"""Flower records from and to numpy arrays, and what a message weighs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

ARRAYS, MASK, EXTRA, BASE = "arrays", "mask", "extra", "base"
"""Names of the array records that a message of this package may hold."""
CONFIG, METRICS, FLAGS = "config", "metrics", "flags"

# Scalars are counted at eight bytes each; Flower's envelope differs between engines and is not counted.
SCALAR_BYTES = 8


def array_record(arrays: Mapping[str, np.ndarray]) -> ArrayRecord:
    """Arrays by name as a Flower record, in the given order."""
    # Not `ascontiguousarray`, which would make a vector of a counter without dimensions.
    return ArrayRecord({name: Array(np.asarray(value, order="C")) for name, value in arrays.items()})


def numpy_arrays(record: ArrayRecord) -> dict[str, np.ndarray]:
    """A Flower record as arrays by name."""
    return {name: value.numpy() for name, value in record.items()}


def state_record(state: Mapping[str, torch.Tensor]) -> ArrayRecord:
    """A model state as a Flower record."""
    return array_record({name: tensor.numpy() for name, tensor in state.items()})


def state_of(record: ArrayRecord) -> dict[str, torch.Tensor]:
    """A Flower record as a model state with memory of its own: arrays that came in a message are read-only."""
    return {name: torch.from_numpy(array.copy()) for name, array in numpy_arrays(record).items()}


def payload_bytes(content: RecordDict, without: str | None = None) -> int:
    """Bytes of the arrays and numbers in `content`, leaving out the record named `without`."""
    total = 0
    for name, record in content.items():
        if name == without:
            continue
        if isinstance(record, ArrayRecord):
            total += sum(int(np.prod(a.shape)) * np.dtype(a.dtype).itemsize for a in record.values())
        elif isinstance(record, ConfigRecord | MetricRecord):
            total += sum(_value_bytes(value) for value in record.values())
    return total


def _value_bytes(value: object) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, list):
        return sum(_value_bytes(item) for item in value)
    return SCALAR_BYTES
