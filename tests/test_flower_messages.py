from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, MetricRecord, RecordDict

from fedunlearn.engines.flower_compat import address, ensure_identity
from fedunlearn.flower_arrays import live_record
from fedunlearn.flower_messages import copy_message, copy_records, envelope, readdressed

ensure_identity()


def content() -> RecordDict:
    return RecordDict(
        {
            "arrays": live_record({"w": np.arange(3, dtype=np.float32), "b": np.ones(())}),
            "config": ConfigRecord({"round": 3, "names": ["a", "b"], "raw": b"x"}),
            "metrics": MetricRecord({"loss": 0.5, "parts": [1, 2]}),
        }
    )


CHANGES: tuple[Callable[[RecordDict], object], ...] = (
    lambda records: records.pop("metrics"),
    lambda records: records["arrays"].pop("w"),
    lambda records: records["arrays"].update(w=records["arrays"]["b"]),
    lambda records: records["config"].update(round=4),
    lambda records: records["config"]["names"].append("c"),
    lambda records: records["metrics"]["parts"].clear(),
)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_to_a_copy_does_not_show_on_the_original_nor_the_other_way(
    change: Callable[[RecordDict], object],
) -> None:
    original = content()
    copied, other = copy_records(original), copy_records(original)
    change(copied)
    assert original == content() != copied
    change(original)
    assert other == content() != original


def test_arrays_are_not_copied() -> None:
    records = content()
    assert copy_records(records)["arrays"]["w"] is records["arrays"]["w"]


def test_a_copied_message_has_metadata_of_its_own() -> None:
    message = Message(content(), 7, "train", group_id="2")
    copied = copy_message(message)
    assert copied.content == message.content and copied.metadata == message.metadata
    address(copied, "another")
    copied.metadata.group_id = "9"
    assert (message.metadata.message_id, message.metadata.group_id) == ("", "2")
    failed = Message(Error(2, "broke"), reply_to=message)
    assert copy_message(failed).error == failed.error and not copy_message(failed).has_content()


def test_an_envelope_can_be_answered_as_the_message_itself() -> None:
    message = Message(content(), 7, "train", group_id="2")
    address(message, "id-1", 5)
    bare = envelope(message)
    assert not bare.has_content() and not bare.has_error() and bare.metadata == message.metadata
    assert Message(RecordDict(), reply_to=bare).metadata.reply_to_message_id == "id-1"


def test_a_readdressed_message_is_the_one_that_flower_makes() -> None:
    first = Message(content(), 7, "train.recover", ttl=60.0, group_id="2")
    pattern = envelope(first)
    address(first, "id-1", 5)
    before = time.time()
    made, flowers = readdressed(pattern, content(), 8), Message(content(), 8, "train.recover", ttl=60.0, group_id="2")
    assert before <= made.metadata.created_at <= flowers.metadata.created_at
    made.metadata.created_at = flowers.metadata.created_at
    assert made.metadata == flowers.metadata and made.content == flowers.content and not made.has_error()
    # It goes out anew, even if the pattern has been sent.
    assert readdressed(first, content(), 8).metadata.message_id == ""
