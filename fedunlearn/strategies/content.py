"""Flower records from and to numpy arrays, and what a message weighs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from flwr.app import ArrayRecord, RecordDict

from fedunlearn.flower_arrays import bytes_of, live_record, views

ARRAYS, MASK, EXTRA, BASE = "arrays", "mask", "extra", "base"
"""Names of the array records that a message of this package may hold."""
CONFIG, METRICS, FLAGS, ADAPTERS = "config", "metrics", "flags", "adapters"
PLAN = "plan"
"""Under `ADAPTERS`: which adapters the model's moving part consists of."""

# Scalars are counted at eight bytes each; Flower's envelope differs between engines and is not counted.
SCALAR_BYTES = 8


def array_record(arrays: Mapping[str, np.ndarray]) -> ArrayRecord:
    """A copy of arrays by name as a Flower record, in the given order; `live_record` is for arrays that stay as is."""
    # Not `ascontiguousarray`, which would make a vector of a counter without dimensions.
    return live_record({name: np.array(value, order="C") for name, value in arrays.items()})


def numpy_arrays(record: ArrayRecord) -> dict[str, np.ndarray]:
    """A Flower record as arrays by name, read-only and without a copy.

    Raises CorruptModel for an array that is none.
    """
    return views(record)


def state_record(state: Mapping[str, torch.Tensor]) -> ArrayRecord:
    """A copy of a model state as a Flower record."""
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
            total += bytes_of(record)
        else:
            total += sum([_value_bytes(value) for value in record.values()])
    return total


def _value_bytes(value: object) -> int:
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, list):
        return sum([_value_bytes(item) for item in value])
    return SCALAR_BYTES
