from __future__ import annotations

import logging
import os
import signal
import time

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedunlearn.engines import LocalGrid
from fedunlearn.engines.cohorts import LARGEST, cohort_size, in_cohorts
from fedunlearn.errors import SettingsError
from fedunlearn.flower_arrays import live_record


class Together(ClientApp):
    """Answers several clients at once, each with how many they were and how often it was asked before."""

    def __init__(self, behaviour=None):
        super().__init__()
        self._behaviour = behaviour
        self.train()(lambda message, context: reply(message, context, 1))

    def batch(self, messages, contexts):
        if self._behaviour is not None:
            changed = self._behaviour(messages, contexts)
            if changed is not None:
                return changed
        return [reply(m, c, len(messages)) for m, c in zip(messages, contexts, strict=True)]


def reply(message, context, together):
    calls = context.state["calls"]["number"] + 1 if "calls" in context.state else 1
    context.state["calls"] = MetricRecord({"number": calls})
    numbers = {"together": together, "calls": calls, "client": context.node_config["partition-id"]}
    return Message(RecordDict({"numbers": MetricRecord(numbers)}), reply_to=message)


def by_value(app):
    """The class of a test module cannot be imported by workers; a factory that holds it is copied with it."""
    import sys

    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    return app


def to_all(grid, content=None):
    shared = live_record({"w": np.zeros(4, dtype=np.float32)})
    return [Message(content or RecordDict({"arrays": shared}), node, "train") for node in grid.get_node_ids()]


def asked(replies, name):
    return [r.content["numbers"][name] if r.has_content() else r.error.reason for r in replies]


@pytest.fixture(params=[0, 2], ids=["inline", "pool"])
def grid_of(request, pool):
    """Makes a grid on either engine."""

    def made(app, clients, **others):
        return LocalGrid(by_value(app), clients, workers=request.param, pool=pool, **others)

    made.workers = request.param
    return made


def test_messages_around_the_same_arrays_are_answered_together(grid_of):
    with grid_of(Together(), 6) as grid:
        for round_number in (1, 2):
            replies = list(grid.send_and_receive(to_all(grid)))
            sizes = asked(replies, "together")
            # A worker that has nothing to do takes over what another has not begun, and divides its cohort.
            assert 1 < max(sizes) <= 3 if grid_of.workers else sizes == [6] * 6
            assert all(sizes.count(size) % size == 0 for size in sizes)
            assert asked(replies, "client") == list(range(6))
            assert asked(replies, "calls") == [round_number] * 6


def test_no_more_than_asked_for_and_none_with_one(grid_of):
    with grid_of(Together(), 8, run_config={"cohort": 3}) as grid:
        sizes = asked(grid.send_and_receive(to_all(grid)), "together")
        assert sizes == [3, 3, 3, 3, 3, 3, 2, 2] if not grid_of.workers else max(sizes) == 3
    with grid_of(Together(), 8, run_config={"cohort": 1}) as grid:
        assert asked(grid.send_and_receive(to_all(grid)), "together") == [1] * 8


def test_no_more_than_asked_for_however_quick_they_are_within_their_time(grid_of):
    with grid_of(Together(), 8, run_config={"cohort": 3}, timeout=60.0) as grid:
        for _ in range(3):
            assert max(asked(grid.send_and_receive(to_all(grid)), "together")) <= 3


def test_an_app_without_batch_is_asked_one_by_one(grid_of, build_app):
    with grid_of(build_app(), 3) as grid:
        replies = list(grid.send_and_receive(to_all(grid)))
        assert [r.content["metrics"]["client"] for r in replies] == [0, 1, 2]


def test_what_the_app_leaves_out_is_answered_singly_from_an_unchanged_state(grid_of):
    def leaves_out(messages, contexts):
        replies = [reply(m, c, len(messages)) for m, c in zip(messages, contexts, strict=True)]
        return [None if c.node_config["partition-id"] % 2 else r for r, c in zip(replies, contexts, strict=True)]

    with grid_of(Together(leaves_out), 4) as grid:
        for round_number in (1, 2):
            replies = list(grid.send_and_receive(to_all(grid)))
            sizes = asked(replies, "together")
            assert sizes[1::2] == [1, 1] and max(sizes[::2]) > 1
            assert asked(replies, "calls") == [round_number] * 4


@pytest.mark.parametrize("how", ["raises", "too few", "wrong replies", "declines"])
def test_a_cohort_that_fails_is_asked_one_by_one(grid_of, caplog, how):
    def fails(messages, contexts):
        for context in contexts:
            context.state["rubbish"] = MetricRecord({"x": 1})
            context.state.pop("calls", None)
        if how == "raises":
            raise ValueError("cannot")
        if how == "declines":
            return [None] * len(messages)
        return [] if how == "too few" else [messages[0]] * len(messages)

    with caplog.at_level(logging.ERROR), grid_of(Together(fails), 4) as grid:
        for round_number in (1, 2):
            replies = list(grid.send_and_receive(to_all(grid)))
            assert asked(replies, "together") == [1] * 4
            assert asked(replies, "calls") == [round_number] * 4
    said = [record.getMessage() for record in caplog.records if "one by one" in record.getMessage()]
    assert bool(said) == (how in ("raises", "too few"))


def test_a_client_that_hangs_in_a_cohort_is_found_and_cut(grid_of):
    class Hangs(Together):
        def __init__(self):
            super().__init__()
            self._registered_funcs.clear()

            def train(message, context):
                if context.node_config["partition-id"] == 1:
                    time.sleep(30)
                return reply(message, context, 1)

            self.train()(train)

        def batch(self, messages, contexts):
            if any(context.node_config["partition-id"] == 1 for context in contexts):
                time.sleep(30)
            return super().batch(messages, contexts)

    with grid_of(Hangs(), 4, timeout=0.3) as grid:
        replies = asked(grid.send_and_receive(to_all(grid)), "client")
    assert replies == [0, "client 1 did not answer within 0.3 s", 2, 3]


def test_a_worker_that_dies_in_a_cohort_costs_only_the_client_that_kills_it(pool):
    def dies(messages, contexts):
        if any(context.node_config["partition-id"] == 1 for context in contexts):
            os.kill(os.getpid(), signal.SIGKILL)

    with LocalGrid(by_value(Together(dies)), 4, workers=2, pool=pool) as grid:
        replies = asked(grid.send_and_receive(to_all(grid)), "client")
    assert replies == [0, 1, 2, 3]


def test_who_is_put_together():
    from fedunlearn.engines.flower_compat import ensure_identity

    ensure_identity()
    one, other = live_record({"w": np.zeros(2)}), live_record({"w": np.zeros(2)})

    def message(record, node, kind="train"):
        return Message(RecordDict({"arrays": record.copy(), "m": MetricRecord({"x": node})}), node, kind)

    messages = [
        message(one, 5),
        message(one, 6),
        message(one, 5),
        message(other, 7),
        message(other, 8, "train.recover"),
        message(other, 9, "train.recover"),
    ]
    assert in_cohorts(messages) == [[0, 1], [2], [3], [4, 5]]
    assert in_cohorts([]) == []
    assert in_cohorts([Message(RecordDict({"a": ArrayRecord()}), n, "query") for n in (5, 6)]) == [[0, 1]]


@pytest.mark.parametrize(("asked_for", "size"), [("auto", LARGEST), ("", LARGEST), (1, 1), (7, 7)])
def test_the_size_of_a_cohort(asked_for, size):
    assert cohort_size(Together(), {"cohort": asked_for}) == size
    assert cohort_size(ClientApp(), {"cohort": asked_for}) == 1


@pytest.mark.parametrize("asked_for", [0, "many", 1.5])
def test_a_wrong_size_is_refused(asked_for):
    with pytest.raises(SettingsError, match="cohort is"):
        cohort_size(Together(), {"cohort": asked_for})
