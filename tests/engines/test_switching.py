"""workers="auto": in this process until starting others has been earned, with the same results."""

from __future__ import annotations

import hashlib
import logging
import os
import time

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message, RecordDict

from fedunlearn.engines import LocalGrid, close_pool, run, switching
from fedunlearn.engines.switching import workers_worth
from fedunlearn.engines.worker_pool import WorkerPool, cores, idle_workers

APP = """
    import os, time
    import numpy as np
    from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp

    known = {"only here": False}

    def build():
        app = ClientApp()

        @app.train()
        def train(message, context):
            time.sleep(context.run_config["seconds"])
            calls = context.state["calls"]["number"] + 1 if "calls" in context.state else 1
            context.state["calls"] = MetricRecord({"number": calls})
            (array,) = message.content["arrays"].to_numpy_ndarrays()
            new = array * np.float32(0.7) + np.float32(calls + context.node_config["partition-id"])
            numbers = MetricRecord({"pid": os.getpid()})
            return Message(RecordDict({"arrays": ArrayRecord([new]), "numbers": numbers}), reply_to=message)

        @app.query()
        def fail(message, context):
            if not known["only here"]:
                raise KeyError("not registered")
            return Message(RecordDict(), reply_to=message)

        return app
"""


@pytest.fixture
def module(client_module):
    return client_module(APP)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(switching, "cores", lambda: 2)
    yield
    close_pool()


def played(rounds):
    """A server that returns the digest of the averaged model, and in which processes the clients of each round ran."""

    def server(grid):
        array, pids = np.ones(30, dtype=np.float32), []
        for _ in range(rounds):
            content = RecordDict({"arrays": ArrayRecord([array])})
            replies = list(grid.send_and_receive([Message(content, n, "train") for n in grid.get_node_ids()]))
            array = sum(reply.content["arrays"]["0"].numpy() for reply in replies) / np.float32(len(replies))
            pids.append({reply.content["numbers"]["pid"] for reply in replies})
        return hashlib.sha256(array.tobytes()).hexdigest(), pids

    return server


def test_it_changes_over_once_clients_have_taken_long_enough(module, monkeypatch):
    monkeypatch.setattr(switching, "START_SECONDS", 0.2)
    config = {"seconds": 0.03}
    expected, _ = run("local", played(60), module.build, 4, config, workers=0)
    digest, pids = run("local", played(60), module.build, 4, config)
    assert digest == expected
    assert pids[0] == pids[1] == {os.getpid()}
    assert len(pids[-1]) == 2 and os.getpid() not in pids[-1]
    # What has been started is used by the next federation after its first client.
    digest, pids = run("local", played(60), module.build, 4, config)
    assert digest == expected
    assert os.getpid() not in pids[1] and len(pids[1]) == 2


def test_a_short_run_stays_here_and_starts_nothing(module):
    _, pids = run("local", played(3), module.build, 4, {"seconds": 0.003})
    assert set.union(*pids) == {os.getpid()} and idle_workers() == 0


def test_many_calls_that_take_no_time_stay_here(module, monkeypatch):
    monkeypatch.setattr(switching, "START_SECONDS", 0.001)
    monkeypatch.setattr(switching, "WORTH_SECONDS", 10.0)
    _, pids = run("local", played(20), module.build, 4, {"seconds": 0.0})
    assert set.union(*pids) == {os.getpid()} and idle_workers() == 0


def test_what_workers_cannot_do_is_done_here(module, monkeypatch, caplog):
    """As a task that a script registered with itself: no other process knows it."""
    monkeypatch.setattr(switching, "START_SECONDS", 0.0)
    monkeypatch.setattr(switching, "WORTH_SECONDS", 0.0)
    monkeypatch.setitem(module.known, "only here", True)
    with WorkerPool() as pool, LocalGrid(module.build, 3, {"seconds": 0.0}, workers="auto", pool=pool) as grid:
        with caplog.at_level(logging.WARNING, "fedunlearn.engines"):
            deadline = time.monotonic() + 60
            while not caplog.records and time.monotonic() < deadline:
                replies = list(grid.send_and_receive([Message(RecordDict(), n, "query") for n in grid.get_node_ids()]))
                assert all(reply.has_content() for reply in replies)
        (record,) = [record for record in caplog.records if record.name == "fedunlearn.engines"]
        assert "stay in this process" in record.getMessage() and "not registered" in record.getMessage()
        # And so it remains, although workers could do this one.
        _, pids = played(2)(grid)
        assert set.union(*pids) == {os.getpid()}


def test_a_client_that_fails_everywhere_proves_nothing(module, monkeypatch, caplog):
    monkeypatch.setattr(switching, "START_SECONDS", 0.0)
    monkeypatch.setattr(switching, "WORTH_SECONDS", 0.0)
    with WorkerPool() as pool, LocalGrid(module.build, 2, {"seconds": 0.0}, workers="auto", pool=pool) as grid:
        while not (grid._clients._pooled is not None and grid._clients._pooled.ready):
            list(grid.send_and_receive([Message(RecordDict(), n, "query") for n in grid.get_node_ids()]))
        replies = list(grid.send_and_receive([Message(RecordDict(), n, "query") for n in grid.get_node_ids()]))
        assert [reply.error.reason for reply in replies] == [
            f"client {n} raised KeyError: 'not registered'" for n in range(2)
        ]
        _, pids = played(2)(grid)
        assert os.getpid() not in pids[1]


def test_an_app_that_only_this_process_has_stays_here(build_app, averaged, monkeypatch):
    monkeypatch.setattr(switching, "START_SECONDS", 0.0)
    monkeypatch.setattr(switching, "WORTH_SECONDS", 0.0)
    seen = []
    run("local", averaged, build_app(lambda client, message, context: seen.append(client)), clients=3)
    assert len(seen) == 9 and idle_workers() == 0


def test_as_many_workers_as_there_are_cores_clients_and_memory_for(monkeypatch):
    monkeypatch.setattr(switching, "cores", lambda: 8)
    monkeypatch.setattr(switching, "_fitting_processes", lambda: 5)
    assert [workers_worth(clients) for clients in (1, 3, 100)] == [1, 3, 5]
    monkeypatch.setattr(switching, "_fitting_processes", lambda: 0)
    assert workers_worth(100) == 1
    monkeypatch.undo()
    assert 1 <= workers_worth(1000) <= cores()
