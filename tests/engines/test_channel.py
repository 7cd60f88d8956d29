from __future__ import annotations

import os
import socket
import threading

import pytest

from fedunlearn.engines.channel import MOST_FILES, Channel, ChannelClosed


@pytest.fixture
def ends():
    pair = [Channel(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)]
    yield pair
    for end in pair:
        end.close()


def opened(content: bytes) -> int:
    file = os.memfd_create("test")
    os.write(file, content)
    return file


def read(file: int) -> bytes:
    try:
        return os.pread(file, 100, 0)
    finally:
        os.close(file)


def test_frames_come_in_order_and_as_they_were(ends):
    here, there = ends
    sent = [{"number": n, "text": "ä\n" * n, "values": [1, 1.5, None, float("inf")]} for n in range(50)]
    for frame in sent:
        here.send(frame)
    assert [there.receive() for _ in sent] == [(frame, []) for frame in sent]
    assert there.poll() is None


def test_open_files_belong_to_their_frames(ends):
    here, there = ends
    files = [opened(b"%d" % n) for n in range(7)]
    here.send({"n": 0})
    here.send({"n": 1}, files[:1])
    here.send({"n": 2}, files[1:4])
    here.send({"n": 3})
    here.send({"n": 4}, files[4:])
    for file in files:
        os.close(file)
    got = [there.receive() for _ in range(5)]
    contents = [[read(file) for file in files] for _, files in got]
    assert contents == [[], [b"0"], [b"1", b"2", b"3"], [], [b"4", b"5", b"6"]]
    assert [frame["n"] for frame, _ in got] == [0, 1, 2, 3, 4]


def test_as_many_files_as_a_frame_may_have(ends):
    here, there = ends
    file = opened(b"x")
    here.send({}, [file] * MOST_FILES)
    os.close(file)
    _, files = there.receive()
    assert len(files) == MOST_FILES
    assert {read(file) for file in files} == {b"x"}


def test_both_sides_may_send_more_than_fits_between_them(ends):
    """Neither reads before it has sent everything: this would never end if a sender did not take in what comes."""
    long = {"text": "x" * 2_000_000}
    failures = []

    def exchange(end):
        try:
            for _ in range(3):
                end.send(long)
            assert [end.receive()[0] for _ in range(3)] == [long] * 3
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=exchange, args=(end,), daemon=True) for end in ends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert failures == []


def test_what_was_sent_before_the_end_is_still_read(ends):
    here, there = ends
    here.send({"last": True})
    here.close()
    assert there.receive() == ({"last": True}, [])
    with pytest.raises(ChannelClosed):
        there.receive()
    with pytest.raises(ChannelClosed):
        there.poll()
    with pytest.raises(ChannelClosed):
        for _ in range(2):
            there.send({})
    with pytest.raises(ChannelClosed):
        here.send({})
    assert there.closed
