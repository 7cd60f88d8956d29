"""The weighted mean of arrays that come one set after the other, in memory that does not grow with their number."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fedunlearn.errors import ClientError

BLOCK = 1 << 17
"""Values that are worked on together: what they need stays in the processor's second-level cache."""
GROUP = 32
"""So many sets are summed in single precision before the sum is carried over into double precision, which takes longer.
What is lost is at most a millionth of the largest value, and typically a fifth of that."""
MODERATE = 1e15
"""Up to this weight, a group of single-precision numbers whose squares are finite (below 2e19) has a finite sum."""


class _Piece(NamedTuple):
    """Part of a flattened array (None: the whole), and its place in a block."""

    name: str
    part: slice | None
    place: slice


@dataclass(frozen=True)
class _Block:
    """Up to `BLOCK` values of one type: room for one set's share (all blocks take turns in it), and a sum."""

    pieces: tuple[_Piece, ...]
    room: np.ndarray
    sum: np.ndarray

    def add_moderate(self, arrays: Mapping[str, np.ndarray], weight: float) -> bool:
        """Add one set that is all in this block, of the block's types, unless a number of it is too large to be sure
        that nothing overflows; whether it was added.
        """
        parts = [arrays[name] for name, _, _ in self.pieces]
        values = parts[0].reshape(-1) if len(parts) == 1 else np.concatenate(parts, axis=None, out=self.room)
        if not _squares_are_finite(values):
            return False
        np.multiply(values, self.room.dtype.type(weight), out=self.room)
        self.add()
        return True

    def weigh(self, arrays: Mapping[str, np.ndarray], weight: float) -> None:
        parts = [arrays[name] if part is None else arrays[name][part] for name, part, _ in self.pieces]
        factor = self.room.dtype.type(weight)
        if len(parts) == 1:
            np.multiply(parts[0], factor, out=self.room, dtype=self.room.dtype, casting="same_kind")
        else:
            # One call for many small arrays.
            np.concatenate(parts, out=self.room, casting="same_kind")
            np.multiply(self.room, factor, out=self.room)

    def add(self) -> None:
        np.add(self.sum, self.room, out=self.sum)


class _Sums:
    """The sums of all arrays of one type, and what earlier groups have left."""

    def __init__(self, like: Mapping[str, np.ndarray], dtype: type[np.floating]) -> None:
        size = sum(array.size for array in like.values())
        # One large piece of memory is had more quickly than many small ones.
        self.sum = np.zeros(size, dtype)
        self.carried: np.ndarray | None = None
        room = np.empty(min(size, BLOCK), dtype)
        self.blocks = [_Block(pieces, room[: stop - start], self.sum[start:stop]) for start, stop, pieces in _cut(like)]

    def carry(self) -> None:
        if self.carried is None:
            self.carried = self.sum.astype(np.float64)
        else:
            np.add(self.carried, self.sum, out=self.carried)
        self.sum.fill(0)

    def total(self, part: slice) -> np.ndarray:
        return self.sum[part] if self.carried is None else self.carried[part] + self.sum[part]


class RunningMean:
    """The weighted mean of sets of equally named arrays, reproducible for a given order of the sets.

    Integer arrays (counters of normalisation layers) are copied from the first set, never averaged.

    Args:
        like: names, shapes and types that every set must have.
    """

    def __init__(self, like: Mapping[str, np.ndarray]) -> None:
        self._shapes = {name: array.shape for name, array in like.items()}
        self._types = {name: array.dtype for name, array in like.items()}
        self._floats = [name for name, dtype in self._types.items() if dtype.kind == "f"]
        self._counters: dict[str, np.ndarray] = {}
        wide = [name for name in self._floats if self._types[name].itemsize > 4]
        self._sums = [
            _Sums({name: like[name] for name in self._floats if name not in wide}, np.float32),
            _Sums({name: like[name] for name in wide}, np.float64),
        ]
        self._blocks = [block for sums in self._sums for block in sums.blocks]
        self._integers = [name for name in like if name not in self._floats]
        self._in_group = 0
        self.weight = 0.0
        """The sum of the weights so far."""

    def add(self, arrays: Mapping[str, np.ndarray], weight: float, sender: str = "a client") -> None:
        """Add one set.

        Raises:
            ClientError: it has other names, shapes or kinds of numbers, a number that is not finite, or a weight below
                0; the mean is as if it had never come.
        """
        same_types = self._check(arrays, weight, sender)
        if self._in_group == GROUP:
            for sums in self._sums:
                sums.carry()
            self._in_group = 0
        small = same_types and len(self._blocks) == 1 and weight <= MODERATE
        # The way of most small models, on which what is read once is in the processor's cache afterwards.
        if not (small and self._blocks[0].add_moderate(arrays, weight)):
            flat = {name: arrays[name].reshape(-1) for name in self._floats}
            check_finite(flat, sender)
            with np.errstate(over="ignore", invalid="ignore"):
                for block in self._blocks:
                    block.weigh(flat, weight)
                    block.add()
        if self._integers and not self._counters:
            self._counters = {name: arrays[name].astype(self._types[name]) for name in self._integers}
        self._in_group += 1
        self.weight += weight

    def result(self) -> dict[str, np.ndarray]:
        """The mean so far, in the types of `like`.

        Raises ClientError when the weights do not sum to a positive number, or the arrays to more than a number holds.
        """
        if not self.weight > 0:
            raise ClientError("the replies stand for no sample; expected at least one sample.")
        mean = {name: np.empty(math.prod(self._shapes[name]), self._types[name]) for name in self._floats}
        for sums in self._sums:
            start = 0
            # Block by block, all of it stays in the processor's cache.
            for block in sums.blocks:
                total = sums.total(slice(start, start + block.sum.size))
                if not np.isfinite(total).all():
                    raise ClientError(
                        "the replies add up to more than a number of their type holds; the learning rate is too high, "
                        "or a client sends nonsense."
                    )
                share = total / total.dtype.type(self.weight)
                start += block.sum.size
                for name, part, place in block.pieces:
                    mean[name][... if part is None else part] = share[place]
        shaped = {name: array.reshape(self._shapes[name]) for name, array in mean.items()}
        return {name: shaped[name] if name in shaped else self._counters[name] for name in self._shapes}

    def _check(self, arrays: Mapping[str, np.ndarray], weight: float, sender: str) -> bool:
        """Whether all numbers are of the expected types; raises ClientError when they cannot be made so."""
        same_types = True
        if arrays.keys() != self._shapes.keys():
            odd = sorted(arrays.keys() ^ self._shapes.keys())[0]
            verb = "did not send" if odd in self._shapes else "sent"
            raise ClientError(f"{sender} {verb} {odd!r}; expected exactly the {len(self._shapes)} arrays that move.")
        for name, array in arrays.items():
            if array.dtype != self._types[name]:
                same_types = False
            if array.shape != self._shapes[name] or not (
                same_types or np.can_cast(array.dtype, self._types[name], "same_kind")
            ):
                raise ClientError(
                    f"{sender} sent {name!r} as {array.dtype} {array.shape}; expected {self._types[name]} "
                    f"{self._shapes[name]}."
                )
        if not weight >= 0:
            raise ClientError(f"{sender} says that it trained on {weight:g} samples; expected 0 or more.")
        return same_types


def check_finite(arrays: Mapping[str, np.ndarray], sender: str) -> None:
    """Raise ClientError naming the first array that holds a number that is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not _squares_are_finite(array) and not np.isfinite(array).all():
                raise ClientError(f"{sender} sent an update of {name!r}, which holds a number that is not finite.")


def _squares_are_finite(array: np.ndarray) -> bool:
    """Whether the sum of the squares is finite: then all numbers are, which to ask of each takes several times as long.

    It may overflow although all are, in half precision soon.
    """
    flat = array.reshape(-1)
    # Unlike `dot`, it does not warn when that happens.
    return array.itemsize > 2 and math.isfinite(np.vdot(flat, flat))


def _cut(like: Mapping[str, np.ndarray]) -> Iterator[tuple[int, int, tuple[_Piece, ...]]]:
    """Where each block begins and ends in all the flattened arrays put together, and its pieces."""
    pieces: list[_Piece] = []
    begin = at = 0
    for name, array in like.items():
        done = 0
        while done < array.size:
            step = min(array.size - done, begin + BLOCK - at)
            part = None if step == array.size else slice(done, done + step)
            pieces.append(_Piece(name, part, slice(at - begin, at - begin + step)))
            done, at = done + step, at + step
            if at == begin + BLOCK:
                yield begin, at, tuple(pieces)
                begin, pieces = at, []
    if pieces:
        yield begin, at, tuple(pieces)
