from __future__ import annotations

import json
import math

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedunlearn.engines.records import Layout, Parcel, flat, identity, unpacked
from fedunlearn.flower_arrays import LiveArray, live_record


def there_and_back(records, known=None, given_back=None):
    """What the other side makes of records, by way of JSON and one piece of memory."""
    parcel = Parcel({})
    plain = json.loads(json.dumps(parcel.add(records, known)))
    layouts = {number: Layout.read(json.loads(json.dumps(entries))) for number, entries in parcel.new_layouts}
    memory = np.zeros(parcel.size, dtype=np.uint8)
    for array, offset in zip(parcel.arrays, parcel.offsets, strict=True):
        memory[offset : offset + array.nbytes] = np.frombuffer(array.tobytes(), dtype=np.uint8)
    memory.setflags(write=False)
    return unpacked(plain, layouts, memory if parcel.size else None, given_back or (lambda *_: None)), parcel


DTYPES = st.sampled_from(["<f4", "<f8", "<f2", "<i8", "<u1", "?", "<c8", ">f4", "<M8[s]"])
ARRAYS = st.dictionaries(
    st.text(max_size=8),
    DTYPES.flatmap(lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))),
    max_size=4,
)
NUMBERS = st.one_of(st.integers(), st.floats())
METRICS = st.dictionaries(
    st.text(max_size=8), st.one_of(NUMBERS, st.lists(st.integers(), max_size=3), st.lists(st.floats(), max_size=3))
)
SCALARS = [st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5), st.booleans()]
CONFIG = st.dictionaries(st.text(max_size=8), st.one_of(*SCALARS, *(st.lists(kind, max_size=3) for kind in SCALARS)))


def same(one: object, other: object) -> bool:
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return type(one) is type(other) and one == other


@settings(max_examples=80, deadline=None)
@given(ARRAYS, METRICS, CONFIG, st.booleans())
def test_every_record_comes_back_as_it_was(arrays, metrics, config, live):
    record = live_record(arrays) if live else ArrayRecord({name: Array(array) for name, array in arrays.items()})
    sent = RecordDict({"a": record, "m": MetricRecord(metrics), "c": ConfigRecord(config)})
    got, _ = there_and_back(sent)
    assert list(got) == ["a", "m", "c"]
    for name, array in arrays.items():
        back = got["a"][name]
        assert back.numpy().tobytes() == array.tobytes()
        assert (back.dtype, tuple(back.shape), back.stype) == (str(array.dtype), array.shape, "numpy.ndarray")
        assert back.data == record[name].data
    assert list(got["a"]) == list(arrays)
    for name, values in (("m", metrics), ("c", config)):
        assert list(got[name]) == list(values)
        assert all(same(got[name][key], value) for key, value in values.items())


def test_arrays_are_mapped_and_read_only():
    got, _ = there_and_back(RecordDict({"a": live_record({"x": np.ones(100)})}))
    array = got["a"]["x"]
    assert isinstance(array, LiveArray)
    assert not array.live.flags.owndata and not array.live.flags.writeable


@pytest.mark.parametrize(
    "array",
    [
        Array("float32", (3,), "my.format", b"whatever"),
        Array("float32", (3,), "numpy.ndarray", b"not what numpy saves"),
        Array(np.asfortranarray(np.arange(12.0).reshape(3, 4))),
        Array(np.array([(1, 2.0)], dtype=[("a", "<i4"), ("b", "<f8")])),
    ],
    ids=["foreign", "damaged", "Fortran order", "structured"],
)
def test_an_array_that_no_layout_can_tell_goes_over_byte_by_byte(array):
    got, _ = there_and_back(RecordDict({"a": ArrayRecord({"x": array})}))
    assert got["a"]["x"] == array


def test_a_layout_is_told_once():
    table: dict[tuple[object, ...], int] = {}
    first, second = Parcel(table), Parcel(table)
    records = [RecordDict({"a": live_record({"x": np.full(3, value)})}) for value in (1, 2)]
    assert first.add(records[0])[0][2] == second.add(records[1])[0][2]
    assert len(first.new_layouts) == 1 and second.new_layouts == []


def test_what_the_other_side_has_is_named_and_not_sent():
    shared, own = live_record({"x": np.ones(1000)}), live_record({"x": np.ones(1000)})
    got, parcel = there_and_back(
        RecordDict({"shared": shared, "own": own}),
        lambda record: ["published", 7] if identity(record) == identity(shared) else None,
        lambda where, number: {("published", 7): shared}[where, number],
    )
    assert parcel.size == own["x"].live.nbytes
    assert got["shared"] == shared and got["shared"] is not shared


def test_the_same_arrays_under_the_same_names_are_the_same_record():
    record = live_record({"x": np.ones(2), "y": np.ones(3)})
    assert identity(record.copy()) == identity(record)
    other = record.copy()
    other["x"] = LiveArray(np.ones(2))
    assert identity(other) != identity(record)
    renamed = ArrayRecord()
    renamed["y"], renamed["x"] = record["x"], record["y"]
    assert identity(renamed) != identity(record)


def test_a_record_without_a_byte_takes_no_memory():
    entries, arrays = flat(live_record({"x": np.empty((0, 3), dtype=np.float32)}))
    assert sum(array.nbytes for array in arrays) == 0
    assert Layout.of(entries).record(None, 0)["x"].numpy().shape == (0, 3)
