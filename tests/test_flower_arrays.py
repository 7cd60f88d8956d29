from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_arrays

from fedunlearn.errors import CorruptModel
from fedunlearn.flower_arrays import LiveArray, live_record, view

TYPES = ("float32", "float64", "float16", "int64", "int32", "uint8", "bool", "uint16")
ARRAYS = st.sampled_from(TYPES).flatmap(
    lambda dtype: numpy_arrays.arrays(dtype, numpy_arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


@given(array=ARRAYS)
def test_a_view_is_what_flower_reads(array: np.ndarray) -> None:
    for flower in (Array(array), LiveArray(array)):
        seen = view(flower)
        np.testing.assert_array_equal(seen, array)
        assert (seen.dtype, seen.shape) == (array.dtype, array.shape)
        assert not seen.flags.writeable


@given(array=ARRAYS)
def test_a_live_array_is_in_every_field_what_flower_makes(array: np.ndarray) -> None:
    live, plain = LiveArray(array), Array(array)
    assert (live.dtype, live.shape, live.stype, live.data) == (plain.dtype, plain.shape, plain.stype, plain.data)
    assert live.deflate() == plain.deflate() and live.object_id == plain.object_id
    assert live.children.keys() == plain.children.keys()
    np.testing.assert_array_equal(live.numpy(), plain.numpy())


def test_nothing_is_copied() -> None:
    array = np.arange(6.0)
    assert np.shares_memory(view(LiveArray(array)), array)
    plain = Array(array)
    assert np.shares_memory(view(plain), np.frombuffer(plain.data, np.uint8))
    record = live_record({"b": array, "a": array[:3]})
    assert list(record) == ["b", "a"]
    assert all(np.shares_memory(view(one), array) for one in record.values())


def test_what_a_live_array_hands_out_for_writing_is_a_copy() -> None:
    array = np.arange(3.0)
    live = LiveArray(array)
    live.numpy()[0] = 9
    assert array[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        live.live[0] = 9
    array[1] = 5
    assert array[1] == 5, "its owner may go on writing into the array"


@pytest.mark.parametrize("send", [lambda a: pickle.loads(pickle.dumps(a)), copy.deepcopy], ids=["pickle", "deepcopy"])
def test_what_leaves_the_process_is_an_ordinary_array(send) -> None:  # type: ignore[no-untyped-def]
    back = send(LiveArray(np.arange(4, dtype=np.float32)))
    assert type(back) is Array
    np.testing.assert_array_equal(view(back), np.arange(4, dtype=np.float32))


def test_a_record_of_flowers_own_making_holds_the_same_numbers() -> None:
    record = ArrayRecord(dict(live_record({"w": np.ones((2, 2))}).items()))
    assert type(record["w"]) is Array
    np.testing.assert_array_equal(record["w"].numpy(), np.ones((2, 2)))


def test_arrays_in_other_layouts_are_read_right() -> None:
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(view(Array(array)), array)
    np.testing.assert_array_equal(view(LiveArray(array)), array)
    np.testing.assert_array_equal(view(LiveArray(array[:, ::2])), array[:, ::2])


def _saved(array: np.ndarray, **how: bool) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **how)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("dtype", "shape", "stype", "data"),
    [
        ("float32", (4,), "numpy.ndarray", b""),
        ("float32", (4,), "numpy.ndarray", b"not numpy at all, but long enough to look at"),
        ("float32", (3,), "numpy.ndarray", _saved(np.ones(4, np.float32))),
        ("float64", (4,), "numpy.ndarray", _saved(np.ones(4, np.float32))),
        ("float32", (4,), "torch.tensor", _saved(np.ones(4, np.float32))),
        ("float32", (4,), "numpy.ndarray", _saved(np.ones(4, np.float32))[:-1]),
        ("float32", (4,), "numpy.ndarray", _saved(np.ones(4, np.float32)) + b"x"),
        ("float32", (4,), "numpy.ndarray", _saved(np.ones(4, np.float32)).replace(b"descr", b"other")),
        ("object", (1,), "numpy.ndarray", _saved(np.array([{}], object), allow_pickle=True)),
    ],
    ids=["empty", "text", "shape", "type", "other bytes", "short", "long", "header", "objects"],
)
def test_bytes_that_are_no_such_array_are_refused(dtype: str, shape: tuple[int, ...], stype: str, data: bytes) -> None:
    with pytest.raises(CorruptModel, match="expected the bytes that numpy saves"):
        view(Array(dtype, shape, stype, data))
