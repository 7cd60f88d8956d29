from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, Message, RecordDict

from fedunlearn.clients.guard_arrays import (
    Judge,
    channel_indices,
    counts_by_bin,
    like_incoming,
    no_array,
    score_per_channel,
)
from fedunlearn.flower_arrays import LiveArray
from fedunlearn.strategies.content import ARRAYS, array_record


def of_training() -> Judge:
    sent = RecordDict({ARRAYS: array_record({"w": np.ones((2, 3), np.float32)})})
    return like_incoming(Message(sent, 1000, "train"))


JUDGES: dict[str, tuple[Callable[[], Judge], str, np.ndarray]] = {
    "scores": (lambda: score_per_channel({"hidden": 4}, 10), "hidden", np.ones(4, np.float32)),
    "classes": (lambda: score_per_channel({"hidden": 4}, 10), "classes", np.ones(10, np.float32)),
    "indices": (lambda: channel_indices({"hidden": 4}), "hidden", np.array([0, 3], np.int32)),
    "bins": (lambda: counts_by_bin("errors", 3, 20), "errors", np.array([8, 0, 12], np.int32)),
    "parameters": (of_training, "w", np.zeros((2, 3), np.float32)),
}


@pytest.mark.parametrize("name", JUDGES)
def test_what_belongs_there_passes_and_nothing_is_carried_along(name: str) -> None:
    make, key, array = JUDGES[name]
    judge = make()
    sound = Array(array)
    assert judge(key, sound) is None
    fields = {"dtype": sound.dtype, "shape": sound.shape, "stype": sound.stype, "data": sound.data}
    for change in (
        {"dtype": "float64"},
        {"shape": (*sound.shape, 1)},
        {"stype": "a text of any length"},
        {"data": sound.data + b"\x01"},
        {"data": sound.data[:-1]},
        {"data": b"X" * len(sound.data)},
    ):
        assert judge(key, Array(**{**fields, **change})), change  # type: ignore[arg-type]
    assert judge("another name", sound)
    assert no_array(key, sound)


@pytest.mark.parametrize("name", JUDGES)
def test_an_array_whose_bytes_are_yet_to_be_made_is_judged_by_its_numbers(name: str) -> None:
    make, key, array = JUDGES[name]
    judge = make()
    assert judge(key, LiveArray(array)) is None
    assert judge(key, LiveArray(array.astype(np.float64)))
    assert judge(key, LiveArray(array[None]))
    for field, value in {"dtype": "float16", "shape": (7,), "stype": "a text", "_live": np.zeros(1000)}.items():
        lying = LiveArray(array)
        lying.__dict__[field] = value
        assert judge(key, lying), field

    class Smuggler(LiveArray):
        data = b"anything"  # type: ignore[assignment]

    assert judge(key, Smuggler(array))


@pytest.mark.parametrize("counts", [[8, 0, 11], [-1, 9, 12], [40, 0, -1], [0, 0, 0]])
def test_a_histogram_holds_counts_of_several_samples(counts: list[int]) -> None:
    judge = counts_by_bin("errors", 3, 20)
    assert judge("errors", Array(np.array(counts, np.int32)))
    assert judge("losses", Array(np.array([8, 0, 12], np.int32)))
