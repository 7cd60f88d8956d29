"""Blocks of shared memory: written by one process, mapped by others, used again once nobody looks at them.

Nothing has a name that could be left behind: a block is an open file that goes over the channel, and its memory is
freed with the last process that maps it, however that ends.
"""

from __future__ import annotations

import logging
import mmap
import os
import tempfile
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Sequence

import numpy as np

ALIGNMENT = 64
_PAGE = mmap.PAGESIZE
SPARE_BYTES = 128 * 2**20
"""What a writer keeps of blocks that nobody uses at the moment."""

logger = logging.getLogger("fedunlearn.engines")


def memory_file(size: int) -> int:
    """An open file of `size` bytes in memory. Raises OSError when there is not as much."""
    return _of_size(os.memfd_create("fedunlearn", os.MFD_CLOEXEC), size)


def disk_file(size: int) -> int:
    """An open file of `size` bytes without a name in the folder for temporary files."""
    with tempfile.TemporaryFile() as file:
        return _of_size(os.dup(file.fileno()), size)


def _of_size(file: int, size: int) -> int:
    try:
        # Claims the memory now: what lacks shows here as an error, and not later as a signal that kills.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file, 0, size)
        else:
            os.ftruncate(file, size)
    except OSError:
        os.close(file)
        raise
    return file


class Block:
    """Memory that its writer fills, and fills again.

    Attributes:
        number: by which both sides know it.
        size: bytes.
        file: the open file, None once its only reader has it.
        readers: who still looks at what is in it.
    """

    def __init__(self, number: int, file: int, size: int) -> None:
        self.number = number
        self.size = size
        self.file: int | None = file
        self.readers: set[Hashable] = set()
        self._memory = mmap.mmap(file, size)

    def write(self, arrays: Sequence[np.ndarray], offsets: Sequence[int]) -> None:
        """Copy C-contiguous arrays to their offsets."""
        for array, offset in zip(arrays, offsets, strict=True):
            np.copyto(np.ndarray(array.shape, array.dtype, self._memory, offset), array)

    def close_file(self) -> None:
        """Give the open file up; the memory stays."""
        if self.file is not None:
            os.close(self.file)
            self.file = None


class Writer:
    """A process's blocks.

    Args:
        create: makes the file of a block; `disk_file` takes over when it cannot. None: what this system has.
    """

    def __init__(self, create: Callable[[int], int] | None = None) -> None:
        self._create = create or (memory_file if hasattr(os, "memfd_create") else disk_file)
        self._blocks: dict[int, Block] = {}
        self._spare: list[Block] = []
        self._next = 0

    def block(self, size: int) -> Block:
        """A block of at least `size` bytes (> 0) that nobody looks at; the caller says who does from now on."""
        fitting = [block for block in self._spare if size <= block.size <= 4 * size + _PAGE]
        if fitting:
            block = min(fitting, key=lambda one: one.size)
            self._spare.remove(block)
        else:
            self._next += 1
            full = -(-size // _PAGE) * _PAGE
            block = self._blocks[self._next] = Block(self._next, self._file(full), full)
        return block

    def released(self, number: int, reader: Hashable) -> None:
        """`reader` no longer looks at a block."""
        block = self._blocks.get(number)
        if block is not None and reader in block.readers:
            block.readers.remove(reader)
            if not block.readers:
                self._spare.append(block)
                self._trim()

    def gone(self, reader: Hashable) -> None:
        """`reader` no longer looks at anything."""
        for block in list(self._blocks.values()):
            self.released(block.number, reader)

    def holds(self, number: int) -> bool:
        """Whether a block has not been given up: readers forget the mapping of one that has."""
        return number in self._blocks

    def close(self) -> None:
        """Give all blocks up; who still looks at one keeps it."""
        for block in self._blocks.values():
            block.close_file()
        self._blocks.clear()
        self._spare.clear()

    def _trim(self) -> None:
        """Give up spare blocks, the longest unused first, where there are too many bytes of them."""
        spare = sum(block.size for block in self._spare)
        while spare > SPARE_BYTES:
            block = self._spare.pop(0)
            spare -= block.size
            block.close_file()
            del self._blocks[block.number]

    def _file(self, size: int) -> int:
        try:
            return self._create(size)
        except OSError as error:
            if self._create is not disk_file:
                logger.warning(
                    "there is no shared memory for %.1f MB (%s): the workers go on with files in %s, which is slower; "
                    "give this machine or container more memory, or use fewer workers",
                    size / 1e6,
                    error.strerror or error,
                    tempfile.gettempdir(),
                )
                self._create = disk_file
            return disk_file(size)


class Reader:
    """Maps another process's blocks and notes when nothing of a block's content is used any more."""

    def __init__(self) -> None:
        self._memories: dict[int, mmap.mmap] = {}
        # By the reference's own number: a reference to an array has no hash.
        self._watched: dict[int, tuple[weakref.ref[np.ndarray], int]] = {}
        self._released: deque[int] = deque()

    def opened(self, number: int, file: int) -> None:
        """Take over the file of a block; it is closed here."""
        try:
            self._memories[number] = mmap.mmap(file, 0, prot=mmap.PROT_READ)
        finally:
            os.close(file)

    def memory(self, number: int) -> np.ndarray:
        """A block's bytes, read-only. When it and all that was made of it are gone, the block counts as released."""
        memory = np.frombuffer(self._memories[number], dtype=np.uint8)
        # Called by whichever thread drops the last reference: appending to a deque needs no lock.
        reference = weakref.ref(memory, self._forget)
        self._watched[id(reference)] = reference, number
        return memory

    def released(self) -> list[int]:
        """Blocks released since the last call."""
        return [self._released.popleft() for _ in range(len(self._released))]

    def dropped(self, numbers: Sequence[int]) -> None:
        """The writer gave these up."""
        for number in numbers:
            self._memories.pop(number, None)

    def _forget(self, reference: weakref.ref[np.ndarray]) -> None:
        self._released.append(self._watched.pop(id(reference))[1])


def offsets_of(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Where arrays of these sizes in bytes go, one after the other, and how many bytes they take together."""
    offsets, end = [], 0
    for size in sizes:
        offsets.append(end)
        end += -(-size // ALIGNMENT) * ALIGNMENT
    return offsets, end
