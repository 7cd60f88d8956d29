from __future__ import annotations

import gc
import socket

import numpy as np
import pytest
from flwr.app import RecordDict

from fedunlearn.engines.blocks import Writer
from fedunlearn.engines.channel import MOST_FILES, Channel
from fedunlearn.engines.post import Post
from fedunlearn.engines.records import unpacked
from fedunlearn.flower_arrays import live_record


@pytest.fixture
def posts():
    """Two ends in one process: a parent's, and a worker's."""
    ends = [Channel(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)]
    yield Post(ends[0], Writer(), "worker", only_reader=False), Post(ends[1], Writer(), "parent", only_reader=True)
    for end in ends:
        end.close()


def send(post, value, size=100):
    parcel = post.parcel()
    plain = parcel.add(RecordDict({"a": live_record({"x": np.full(size, value)})}))
    post.send({"kind": "x", "records": plain}, parcel)


def receive(post):
    frame, memory = post.receive()
    return unpacked(frame["records"], post.layouts, memory, lambda *_: None)["a"]["x"].live


def test_records_go_both_ways(posts):
    parent, worker = posts
    for here, there in ((parent, worker), (worker, parent)):
        for value in (1.0, 2.0):
            send(here, value)
            assert receive(there).tolist() == [value] * 100


def test_a_block_comes_back_with_any_frame_of_the_reader(posts):
    parent, worker = posts
    for _ in range(5):
        send(worker, 1.0, 10_000)
        array = receive(parent)
        del array
        gc.collect()
        parent.send({"kind": "anything"})
        worker.receive()
    assert len(worker._writer._blocks) == 1


def test_a_block_that_is_kept_is_not_written_again(posts):
    parent, worker = posts
    kept = []
    for value in range(10):
        send(worker, float(value), 10_000)
        kept.append(receive(parent))
        parent.settle()
    assert [array[0] for array in kept] == list(range(10))
    del kept
    gc.collect()
    parent.settle()
    assert worker.receive()[0]["kind"] == "released"
    send(worker, 1.0, 10_000)
    assert len(worker._writer._blocks) == 10


def test_more_blocks_than_one_frame_carries(posts):
    parent, worker = posts
    blocks = [parent._writer.block(10) for _ in range(2 * MOST_FILES + 5)]
    parent.send({"kind": "last"}, published=blocks)
    frames = [worker.receive()[0] for _ in range(3)]
    assert [frame["kind"] for frame in frames] == ["files", "files", "last"]
    assert [number for frame in frames for number in frame["files"]] == [block.number for block in blocks]
    # They are known from now on.
    parent.send({"kind": "again"}, published=blocks)
    assert "files" not in worker.receive()[0]
