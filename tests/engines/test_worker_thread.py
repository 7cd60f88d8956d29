from __future__ import annotations

import threading
import time

import pytest

from fedunlearn.engines.worker_thread import Overdue, WorkerThread, _Calls


def test_calls_share_one_thread_and_results_and_errors_come_back():
    worker = WorkerThread("test")
    threads = {worker.run(lambda: threading.get_ident(), timeout=10) for _ in range(3)}
    assert len(threads) == 1 and threads != {threading.get_ident()}
    with pytest.raises(ZeroDivisionError):
        worker.run(lambda: 1 / 0, timeout=10)
    assert worker.run(lambda: threading.get_ident(), timeout=10) in threads
    worker.close()


def test_a_thread_left_behind_is_replaced_and_ends_with_its_call():
    worker = WorkerThread("test")
    release = threading.Event()
    started = time.monotonic()
    with pytest.raises(Overdue) as overdue:
        worker.run(lambda: release.wait(20), timeout=0.1)
    assert time.monotonic() - started < 5
    assert worker.run(lambda: 5, timeout=10) == 5
    assert overdue.value.thread.is_alive()
    release.set()
    overdue.value.thread.join(10)
    assert not overdue.value.thread.is_alive()
    worker.close()


def test_a_closed_worker_ends_its_thread_and_can_be_used_again():
    worker = WorkerThread("closing")
    thread = worker.run(threading.current_thread, timeout=10)
    worker.close()
    thread.join(10)
    assert not thread.is_alive()
    assert worker.run(lambda: 1, timeout=10) == 1
    worker.close()


def test_calls_are_handed_over_together_and_those_after_one_that_takes_too_long_are_not_made():
    worker, release, made = WorkerThread("test"), threading.Event(), []

    def call(number: int) -> int:
        made.append(number)
        if number == 2:
            release.wait(20)
        return number

    assert worker.run_all([lambda number=number: call(number) for number in (0, 1)], timeout=10) == [0, 1]
    with pytest.raises(Overdue) as overdue:
        worker.run_all([lambda number=number: call(number) for number in (1, 2, 3)], timeout=0.2)
    assert list(overdue.value.results) == [1]
    release.set()
    overdue.value.thread.join(10)
    assert made == [0, 1, 1, 2]
    worker.close()


def test_the_time_limit_is_for_each_call_and_not_for_all_together():
    worker = WorkerThread("test")
    assert worker.run_all([lambda: time.sleep(0.15)] * 4, timeout=0.4) == [None] * 4
    worker.close()


def test_calls_that_have_all_ended_are_not_left_and_those_that_are_left_are_not_begun():
    made = []
    ended, left = (_Calls([lambda number=number: made.append(number)]) for number in (1, 2))
    ended.run()
    assert not ended.leave() and ended.results == [None]
    assert left.leave()
    left.run()
    assert made == [1] and left.results == []


def test_what_ends_after_it_was_left_is_no_result():
    calls = _Calls([lambda: calls.leave(), lambda: made.append(1)])
    made: list[int] = []
    calls.run()
    assert calls.results == [] and made == []
