from __future__ import annotations

import numpy as np
from flwr.app import ConfigRecord, MetricRecord, RecordDict

from fedunlearn.strategies.content import array_record, numpy_arrays, payload_bytes


def test_arrays_come_back_as_they_were() -> None:
    arrays = {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "a": np.array(7, dtype=np.int64),
        "empty": np.zeros(0, np.int32),
    }
    back = numpy_arrays(array_record(arrays))
    assert list(back) == ["b", "a", "empty"]
    for name, array in arrays.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(back[name], array)


def test_the_payload_by_hand() -> None:
    content = RecordDict(
        {
            "arrays": array_record({"w": np.zeros((3, 4), np.float32), "n": np.array(1, np.int64)}),
            "mask": array_record({"l": np.zeros(5, np.int32)}),
            "metrics": MetricRecord({"loss": 0.5, "counts": [1, 2, 3]}),
            "config": ConfigRecord({"method": "abc", "names": ["de", "f"], "on": True, "raw": b"1234"}),
        }
    )
    arrays, mask, metrics, config = 48 + 8, 20, 8 + 24, 3 + 3 + 8 + 4
    assert payload_bytes(content) == arrays + mask + metrics + config
    assert payload_bytes(content, without="mask") == arrays + metrics + config
    assert payload_bytes(RecordDict()) == 0
