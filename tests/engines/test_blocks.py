from __future__ import annotations

import gc
import logging
import os
import tempfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.engines import blocks
from fedunlearn.engines.blocks import ALIGNMENT, Reader, Writer, disk_file, memory_file, offsets_of


def shared(writer, reader, array, peer="peer"):
    """Write one array and map it: the block's number, and the mapped array."""
    block = writer.block(array.nbytes)
    block.write([array], [0])
    block.readers.add(peer)
    if block.number not in reader._memories:
        reader.opened(block.number, os.dup(block.file))
    return block.number, np.ndarray(array.shape, array.dtype, reader.memory(block.number))


@pytest.mark.parametrize("create", [memory_file, disk_file])
def test_what_is_written_is_read_without_a_copy_and_cannot_be_changed(create):
    writer, reader = Writer(create), Reader()
    array = np.arange(5000, dtype=np.float32).reshape(50, 100)
    _, mapped = shared(writer, reader, array)
    np.testing.assert_array_equal(mapped, array)
    assert not mapped.flags.writeable and not mapped.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        mapped[0] = 1
    writer.close()
    # Whoever looks at it keeps it.
    np.testing.assert_array_equal(mapped, array)


def test_a_block_is_used_again_only_when_nobody_looks_at_it():
    writer, reader = Writer(), Reader()
    first, mapped = shared(writer, reader, np.ones(100))
    row = mapped[3:5].reshape(2, 1)
    del mapped
    gc.collect()
    # A view of a view still looks at it.
    assert reader.released() == []
    second, other = shared(writer, reader, np.zeros(100))
    assert second != first and row.tolist() == [[1.0], [1.0]]
    del row
    gc.collect()
    assert reader.released() == [first]
    writer.released(first, "peer")
    third, again = shared(writer, reader, np.full(100, 2.0))
    assert third == first and again[0] == 2.0 and other[0] == 0.0


def test_two_readers_must_both_be_done():
    writer = Writer()
    block = writer.block(10)
    block.readers.update(("a", "b"))
    writer.released(block.number, "a")
    writer.released(block.number, "a")
    assert writer.block(10) is not block
    writer.gone("b")
    assert writer.block(10) is block


def test_a_small_array_takes_no_large_block():
    writer = Writer()
    large = writer.block(10_000_000)
    large.readers.add("peer")
    writer.released(large.number, "peer")
    assert writer.block(100) is not large
    assert writer.block(9_000_000) is large


def test_spare_blocks_are_given_up_beyond_a_limit(monkeypatch):
    monkeypatch.setattr(blocks, "SPARE_BYTES", 3 * 100_000)
    writer, reader = Writer(), Reader()
    for _ in range(2):
        held = [shared(writer, reader, np.zeros(12_000)) for _ in range(10)]
        numbers = [number for number, _ in held]
        del held
        for number in reader.released():
            writer.released(number, "peer")
        shared(writer, reader, np.zeros(50_000))
    assert sum(writer.holds(number) for number in numbers) <= 4
    reader.dropped([number for number in numbers if not writer.holds(number)])
    assert len(reader._memories) < 24


def test_without_shared_memory_files_in_the_temporary_folder_serve(caplog):
    tried = []

    def none_left(size):
        tried.append(size)
        raise OSError(28, "No space left on device")

    writer, reader = Writer(none_left), Reader()
    with caplog.at_level(logging.WARNING, "fedunlearn.engines"):
        arrays = [np.full(1000, value) for value in (1.0, 2.0)]
        mapped = [shared(writer, reader, array)[1] for array in arrays]
    np.testing.assert_array_equal(mapped, arrays)
    assert len(tried) == 1
    (record,) = caplog.records
    assert "no shared memory" in record.getMessage() and tempfile.gettempdir() in record.getMessage()


@given(st.lists(st.integers(min_value=0, max_value=10_000), max_size=20))
def test_arrays_lie_aligned_one_after_the_other(sizes):
    offsets, total = offsets_of(sizes)
    ends = [*offsets[1:], total][: len(sizes)]
    assert all(offset % ALIGNMENT == 0 for offset in offsets)
    assert all(0 <= end - offset - size < ALIGNMENT for offset, size, end in zip(offsets, sizes, ends, strict=True))
