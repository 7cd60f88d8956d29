"""Checks of an audit's input that every family shares."""

from __future__ import annotations

from torch import Tensor

from fedunlearn.errors import DataError


def same_length(**tensors: Tensor) -> int:
    """The common length of the named tensors. Raises DataError naming the lengths where they differ."""
    lengths = {name: len(tensor) for name, tensor in tensors.items()}
    if len(set(lengths.values())) > 1:
        stated = ", ".join(f"{length} {name.replace('_', ' ')}" for name, length in lengths.items())
        raise DataError(f"an audit got {stated}; it expects one of each a sample.")
    return next(iter(lengths.values()))
