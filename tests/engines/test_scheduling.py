from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.engines.scheduling import MOST_AT_ONCE, Lengths, Schedule


def schedule_of(seconds, workers=2, homes=None, complete=True):
    """A schedule of one message a client; `seconds`: client -> what it took last time, None: it is new."""
    lengths = Lengths()
    for client, took in seconds.items():
        if took is not None:
            lengths.note(client, "train", took, None)
    schedule = Schedule(workers, lengths, {} if homes is None else homes)
    for position, client in enumerate(seconds):
        schedule.add(position, client, "train")
    if complete:
        schedule.all_are_here()
    return schedule


def test_time_goes_by_samples_where_they_are_known():
    lengths = Lengths()
    assert lengths.expected("a", "train") is None
    lengths.note("a", "train", 3.0, 300)
    lengths.note("b", "train", 1.0, 100)
    # A slow moment of the machine says nothing about a client.
    lengths.note("b", "train", 5.0, 100)
    assert lengths.expected("a", "train") == pytest.approx(9 / 500 * 300)
    assert lengths.expected("b", "train") == pytest.approx(9 / 500 * 100)
    lengths.note("c", "query", 0.5, None)
    assert lengths.expected("c", "query") == 0.5
    # Of another kind of message, only what its own kind says.
    assert lengths.expected("c", "train") == pytest.approx(3.0)
    assert lengths.expected("new", "train") == pytest.approx(3.0)


def test_the_longest_go_first_once_all_are_here():
    schedule = schedule_of({"a": 1.0, "b": 3.0, "c": 2.0})
    assert [schedule.take(0, 0.0) for _ in range(3)] == [[1], [2], [0]]
    assert schedule.take(0, 0.0) == []


def test_they_go_in_order_while_more_are_to_come():
    schedule = schedule_of({"a": 1.0, "b": 3.0, "c": 2.0}, complete=False)
    assert schedule.take(0, 0.0) == [0]
    schedule.all_are_here()
    assert [schedule.take(0, 0.0) for _ in range(2)] == [[1], [2]]


def test_short_messages_are_given_together_and_unknown_ones_singly():
    schedule = schedule_of({n: 0.001 for n in range(100)})
    assert len(schedule.take(0, 0.0055)) == 6
    assert len(schedule.take(0, 1.0)) == MOST_AT_ONCE
    assert len(schedule.take(0, None, most=40)) == 40
    assert len(schedule_of({n: None for n in range(10)}).take(0, 1.0)) == 1


def test_clients_stay_with_the_worker_that_served_them():
    homes = {"a": 1, "b": 0, "c": 1, "d": 0}
    schedule = schedule_of({"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0}, homes=homes)
    assert schedule.take(0, 10.0) == [1, 3]
    assert schedule.take(1, 10.0) == [0, 2]
    assert homes == {"a": 1, "b": 0, "c": 1, "d": 0}


def test_a_worker_without_work_takes_from_the_one_that_has_most():
    homes = {"a": 1, "b": 1, "c": 2, "d": 0}
    schedule = schedule_of({"a": 1.0, "b": 5.0, "c": 4.0, "d": 1.0}, workers=3, homes=homes)
    assert schedule.take(0, 0.0) == [3]
    # Worker 1 has 6 seconds to go, worker 2 has 4; of its two messages the longer is taken, and its data with it.
    assert schedule.take(0, 0.0) == [1]
    assert homes["b"] == 0


def test_a_clients_messages_are_given_out_one_after_the_other():
    schedule = Schedule(2, Lengths(), {})
    for position, client in enumerate(("a", "a", "b", "a")):
        schedule.add(position, client, "train")
    schedule.all_are_here()
    assert schedule.take(0, None) == [0, 2]
    assert schedule.take(1, None) == []
    schedule.finished(2)
    assert schedule.take(1, None) == []
    schedule.finished(0)
    assert schedule.take(1, None) == [1]
    schedule.finished(1)
    assert schedule.take(0, None) == [3]


def test_what_a_lost_worker_had_goes_to_another():
    homes = {}
    schedule = schedule_of({"a": 1.0, "b": 1.0}, homes=homes)
    assert schedule.take(0, None) == [0, 1]
    schedule.finished(0)
    schedule.give_back(1)
    assert schedule.take(1, None) == [1]
    assert homes == {"a": 0, "b": 1}


@given(
    lengths=st.lists(st.sampled_from([None, 0.001, 0.1, 3.0]), min_size=1, max_size=40),
    clients=st.integers(min_value=1, max_value=10),
    workers=st.integers(min_value=1, max_value=4),
    homes=st.dictionaries(st.integers(0, 9), st.integers(0, 6)),
    complete_at=st.integers(0, 40),
    seed=st.integers(0, 1000),
)
def test_every_message_is_answered_once_and_a_clients_in_order(lengths, clients, workers, homes, complete_at, seed):
    """Whatever takes how long, whoever dies: nothing is lost, given twice at a time, or overtaken."""
    choices = random.Random(seed)
    times = Lengths()
    for number, seconds in enumerate(lengths):
        if seconds is not None:
            times.note(number % clients, "train", seconds, None)
    schedule = Schedule(workers, times, dict(homes))
    running: dict[int, int] = {}
    answered: list[int] = []
    for position in range(len(lengths)):
        schedule.add(position, position % clients, "train")
        if position == complete_at:
            schedule.all_are_here()
    for _ in range(10_000):
        if len(answered) == len(lengths):
            break
        taken = schedule.take(choices.randrange(workers), choices.choice([0.0, 1.0, None]), choices.randint(1, 5))
        for position in taken:
            assert position not in running and position not in answered
            assert not any(other % clients == position % clients for other in running)
            running[position] = 1
        if running and (not taken or choices.random() < 0.5):
            position = choices.choice(sorted(running))
            del running[position]
            if choices.random() < 0.2:
                schedule.give_back(position)
            else:
                schedule.finished(position)
                answered.append(position)
    assert sorted(answered) == list(range(len(lengths)))
    for client in range(clients):
        own = [position for position in answered if position % clients == client]
        assert own == sorted(own)
    assert len(schedule) == 0


@given(
    st.lists(st.floats(min_value=0.01, max_value=10), min_size=2, max_size=30),
    st.integers(min_value=2, max_value=4),
    st.dictionaries(st.integers(0, 29), st.integers(0, 3)),
)
def test_no_worker_is_idle_while_there_is_work(lengths, workers, homes):
    """List scheduling: whoever is free takes something, so the last one ends within twice the best possible time."""
    schedule = schedule_of(dict(enumerate(lengths)), workers, homes)
    ends = [0.0] * workers
    while len(schedule):
        free = min(range(workers), key=ends.__getitem__)
        (position,) = schedule.take(free, 0.0)
        ends[free] += lengths[position]
        schedule.finished(position)
    best = max(max(lengths), sum(lengths) / workers)
    assert max(ends) <= 2 * best + 1e-9
