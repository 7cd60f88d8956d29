"""Clients in worker processes: the same as in this one, whatever happens to the processes."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import time

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from fedunlearn.engines import LocalGrid, exchange, run
from fedunlearn.engines.worker_pool import WorkerPool
from fedunlearn.errors import FedunlearnError, RequestError, SettingsError
from fedunlearn.flower_arrays import live_record


def record(values=4, value=0.0):
    return live_record({"w": np.full(values, value, dtype=np.float32)})


def to_all(grid, kind="train", content=None):
    shared = record()
    return [Message(content or RecordDict({"arrays": shared}), node, kind) for node in grid.get_node_ids()]


def reasons(replies):
    return [reply.error.reason if reply.has_error() else None for reply in replies]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_same_digest_as_inline(pool, build_app, averaged, workers):
    """The state of each client (it counts its calls) is part of what comes out."""

    def shifts(client, message, context):
        time.sleep(0.001 * (client % 3))

    inline = run("local", averaged, build_app(shifts), clients=5, workers=0)
    with LocalGrid(build_app(shifts), clients=5, workers=workers, pool=pool, timeout=60) as grid:
        assert averaged(grid) == inline
        assert len({desk.worker.pid for desk in grid._clients.desks}) == workers


def test_a_flower_strategy_runs_on_it(pool, build_app):
    initial = ArrayRecord([np.full(5, 2.0, dtype=np.float32)])
    results = []
    for workers in (0, 2):
        # Flower samples clients with Python's global generator.
        random.seed(1)
        with LocalGrid(build_app(), clients=3, workers=workers, pool=pool) as grid:
            results.append(FedAvg().start(grid, initial_arrays=initial, num_rounds=2))
    one, other = results
    assert one.arrays["0"].numpy().tobytes() == other.arrays["0"].numpy().tobytes()
    assert one.train_metrics_clientapp == other.train_metrics_clientapp


def test_workers_are_used_again_by_another_federation(pool, client_module, build_app):
    app = client_module(
        """
        import os
        from flwr.app import Message, MetricRecord, RecordDict
        from flwr.clientapp import ClientApp

        built = []

        def build():
            built.append(1)
            app = ClientApp()

            @app.query()
            def who(message, context):
                numbers = MetricRecord({"pid": os.getpid(), "built": len(built)})
                return Message(RecordDict({"numbers": numbers}), reply_to=message)

            return app
        """
    ).build
    seen = []
    for _ in range(2):
        with LocalGrid(app, clients=6, workers=2, pool=pool) as grid:
            replies = grid.send_and_receive(to_all(grid, "query"))
            seen.append({(reply.content["numbers"]["pid"], reply.content["numbers"]["built"]) for reply in replies})
        with LocalGrid(build_app(), clients=2, workers=2, pool=pool) as grid:
            assert reasons(grid.send_and_receive(to_all(grid))) == [None, None]
    # Each process built the app once.
    assert {built for _, built in seen[0] | seen[1]} == {1}
    assert os.getpid() not in {pid for pid, _ in seen[0]}


def test_what_the_client_finds_is_what_it_finds_inline(pool, caplog):
    app = ClientApp()

    @app.query("look")
    def look(message, context):
        logging.getLogger("fedunlearn.clients").warning("client %d looks", context.node_config["partition-id"])
        facts = ConfigRecord({"node": context.node_id, "run": context.run_id, "rate": context.run_config["rate"]})
        for name in ("run_id", "message_id", "src_node_id", "dst_node_id", "group_id", "ttl", "message_type"):
            facts[f"metadata-{name}"] = getattr(message.metadata, name)
        facts.update({f"node-{key}": value for key, value in context.node_config.items()})
        facts.update({f"sent-{key}": value for key, value in message.content["config"].items()})
        context.run_config["rate"] = 99.0
        message.content["config"]["list"] = [9]
        message.metadata.dst_node_id = 5
        return Message(RecordDict({"facts": facts, "numbers": MetricRecord({"b": 1, "a": 2.0})}), reply_to=message)

    config = ConfigRecord({"list": [1, 2], "bytes": b"\x00\xff", "flag": True, "text": "ä", "none": []})
    for workers in (0, 2):
        caplog.clear()
        with LocalGrid(app, clients=2, run_config={"rate": 0.5}, workers=workers, pool=pool) as grid:
            for round_number in range(2):
                messages = [
                    Message(RecordDict({"config": config}), node, "query.look", group_id=str(round_number))
                    for node in grid.get_node_ids()
                ]
                replies = list(grid.send_and_receive(messages))
                for number, (message, reply) in enumerate(zip(messages, replies, strict=True)):
                    facts = dict(reply.content["facts"])
                    expected = {"node": 1000 + number, "run": grid.run.run_id, "rate": 0.5}
                    expected |= {"metadata-ttl": message.metadata.ttl, "metadata-src_node_id": 1}
                    expected |= {"metadata-run_id": grid.run.run_id, "metadata-dst_node_id": 1000 + number}
                    expected |= {"metadata-message_id": message.metadata.message_id}
                    expected |= {"metadata-group_id": str(round_number), "metadata-message_type": "query.look"}
                    expected |= {"node-partition-id": number, "node-num-partitions": 2}
                    expected |= {f"sent-{key}": value for key, value in config.items()}
                    assert facts == expected
                    assert list(reply.content["numbers"].items()) == [("b", 1), ("a", 2.0)]
                    assert reply.metadata.reply_to_message_id == message.metadata.message_id
                    # The client readdressed its message before it built the reply, and so on both engines.
                    assert reply.metadata.src_node_id == 5
                    assert reply.metadata.dst_node_id == message.metadata.src_node_id
                    assert reply.metadata.group_id == str(round_number)
        assert sorted(record.getMessage() for record in caplog.records) == sorted(
            f"client {n} looks" for n in (0, 1, 0, 1)
        )


def test_state_stays_with_the_parent_and_is_rolled_back_when_the_client_raises(pool):
    app = ClientApp()

    @app.train()
    def keep(message, context):
        state = context.state
        before = state["kept"]["w"].numpy()[0] if "kept" in state else 0.0
        state["kept"] = live_record({"w": np.full(3, before + 1)})
        state["number"] = MetricRecord({"calls": before + 1})
        if message.metadata.group_id == "fail":
            state["number"]["calls"] = 99
            raise RuntimeError("broken")
        return Message(RecordDict({"kept": state["kept"], "number": state["number"]}), reply_to=message)

    @app.query()
    def look(message, context):
        return Message(RecordDict({"kept": context.state["kept"]}), reply_to=message)

    with LocalGrid(app, clients=3, workers=2, pool=pool) as grid:
        seen = []
        for group in ("", "fail", "", ""):
            # Everything that the workers had of the clients is gone each time.
            for worker in pool.at_least(2):
                os.kill(worker.pid, signal.SIGKILL)
            messages = [Message(RecordDict(), node, "train", group_id=group) for node in grid.get_node_ids()]
            replies = list(grid.send_and_receive(messages))
            seen.append([r.content["number"]["calls"] if r.has_content() else r.error.reason for r in replies])
        kept = [reply.content["kept"]["w"].numpy().tolist() for reply in grid.send_and_receive(to_all(grid, "query"))]
    failed = [f"client {client} raised RuntimeError: broken" for client in range(3)]
    assert seen == [[1, 1, 1], failed, [2, 2, 2], [3, 3, 3]]
    assert kept == [[3.0] * 3] * 3


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("two\nlines"), "client 1 raised ValueError: two lines"),
        (RequestError("holds no sample of class 3"), "client 1: holds no sample of class 3"),
        (SystemExit(4), "client 1 left its process with exit status 4"),
    ],
)
def test_what_a_client_raises_becomes_the_same_sentence(pool, build_app, caplog, error, sentence):
    def one_fails(client, message, context):
        if client == 1:
            raise error

    with caplog.at_level(logging.INFO), LocalGrid(build_app(one_fails), clients=3, workers=2, pool=pool) as grid:
        assert reasons(grid.send_and_receive(to_all(grid))) == [None, sentence, None]
    (record,) = [record for record in caplog.records if record.name == "fedunlearn.clients"]
    assert record.getMessage().startswith(sentence) and "Traceback" in record.getMessage()


def test_a_client_that_dies_takes_only_its_own_reply_with_it(pool, build_app):
    def one_dies(client, message, context):
        if client == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    with LocalGrid(build_app(one_dies), clients=6, workers=2, pool=pool) as grid:
        for _ in range(2):
            replies = list(grid.send_and_receive(to_all(grid)))
            expected = [None, None, "client 2 died with its worker process", None, None, None]
            assert reasons(replies) == expected
    assert [reply.content["metrics"]["calls"] for reply in replies if reply.has_content()] == [2] * 5


def test_a_message_whose_worker_was_killed_from_outside_is_answered_by_another(pool, tmp_path):
    app = ClientApp()

    @app.train()
    def once(message, context):
        first = tmp_path / str(context.node_id)
        if not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Message(RecordDict({"arrays": message.content["arrays"]}), reply_to=message)

    with LocalGrid(app, clients=3, workers=2, pool=pool) as grid:
        assert reasons(grid.send_and_receive(to_all(grid))) == [None] * 3
    assert len(list(tmp_path.iterdir())) == 3


def test_a_client_over_its_time_is_cut_and_the_others_go_on(pool, build_app):
    def one_hangs(client, message, context):
        if client == 1 and message.metadata.group_id == "hang":
            context.state["late"] = ConfigRecord({"x": 1})
            time.sleep(60)

    with LocalGrid(build_app(one_hangs), clients=4, workers=2, pool=pool, timeout=0.4) as grid:
        messages = [Message(RecordDict({"arrays": record()}), n, "train", group_id="hang") for n in grid.get_node_ids()]
        assert reasons(grid.send_and_receive(messages)) == [None, "client 1 did not answer within 0.4 s", None, None]
        # It is gone with its process, so that it can be asked again.
        replies = list(grid.send_and_receive(to_all(grid)))
    assert [reply.content["metrics"]["calls"] for reply in replies] == [2, 1, 2, 2]


def test_order_and_several_messages_to_one_client(pool, build_app):
    def slow(client, message, context):
        time.sleep(0.01 * (3 - client))

    with LocalGrid(build_app(slow), clients=3, workers=3, pool=pool) as grid:
        nodes = [node for node in grid.get_node_ids() for _ in range(4)]
        messages = [Message(RecordDict({"arrays": record()}), node, "train") for node in nodes]
        messages.append(Message(RecordDict({"arrays": record()}), 77, "train"))
        replies = list(grid.send_and_receive(iter(messages)))
    assert [r.content["metrics"]["calls"] for r in replies[:-1]] == [1, 2, 3, 4] * 3
    assert [r.content["metrics"]["client"] for r in replies[:-1]] == [0] * 4 + [1] * 4 + [2] * 4
    assert reasons(replies[-1:]) == ["no client has node id 77: the nodes here are 1000 to 1002"]


def test_arrays_are_mapped_on_both_sides_and_shared_ones_written_once(pool):
    app = ClientApp()

    @app.train()
    def change(message, context):
        (array,) = message.content["arrays"].values()
        mapped = not array.live.flags.owndata and not array.live.flags.writeable
        new = live_record({"w": array.live + 1})
        facts = ConfigRecord({"mapped": mapped})
        return Message(RecordDict({"same": message.content["arrays"], "new": new, "facts": facts}), reply_to=message)

    sent = record(50_000, 3.0)
    with LocalGrid(app, clients=5, workers=2, pool=pool) as grid:
        blocks = pool.writer._blocks
        for _ in range(3):
            messages = [Message(RecordDict({"arrays": sent}), node, "train") for node in grid.get_node_ids()]
            for reply in grid.send_and_receive(messages):
                assert reply.content["facts"]["mapped"]
                # What the client only passes on is not even sent.
                assert reply.content["same"]["w"] is sent["w"]
                live = reply.content["new"]["w"].live
                assert not live.flags.owndata and not live.flags.writeable and live[0] == 4.0
                del live
        # At most two: the workers may not have let go of the last one when the next is written.
        assert len([block for block in blocks.values() if block.size >= 200_000]) <= 2


def test_a_reply_stays_as_it_was_whatever_comes_after(pool):
    app = ClientApp()

    @app.train()
    def scaled(message, context):
        new = live_record({"w": message.content["arrays"]["w"].live * context.node_config["partition-id"]})
        return Message(RecordDict({"arrays": new}), reply_to=message)

    with LocalGrid(app, clients=20, workers=2, pool=pool) as grid:
        kept = []
        for value in (1.0, 2.0, 3.0):
            content = RecordDict({"arrays": record(10_000, value)})
            kept += [
                reply.content["arrays"]["w"].live for reply in grid.send_and_receive(to_all(grid, content=content))
            ]
            gc.collect()
    assert [array[-1] for array in kept] == [value * client for value in (1.0, 2.0, 3.0) for client in range(20)]


def test_replies_that_wait_are_bounded_in_bytes(pool, monkeypatch):
    """Client 0 is slow: the others get ahead of it as far as their replies fit into memory."""
    app = ClientApp()

    @app.train()
    def train(message, context):
        if context.node_config["partition-id"] == 0:
            time.sleep(0.3)
        return Message(RecordDict({"arrays": live_record({"w": np.ones(25_000, np.float32)})}), reply_to=message)

    monkeypatch.setattr(exchange, "AHEAD_BYTES", 1_000_000)
    taken = []

    def messages(grid):
        for message in to_all(grid):
            taken.append(message)
            yield message

    with LocalGrid(app, clients=60, workers=2, pool=pool) as grid:
        for _ in range(2):
            ahead = []
            taken.clear()
            for read, _ in enumerate(grid.send_and_receive(messages(grid))):
                ahead.append(len(taken) - read)
    # 100 kB each; at first their size is not known, and guessed by what is sent.
    assert max(ahead) <= 11


def test_an_app_that_workers_cannot_have_is_named(pool, client_module):
    module = client_module("def build():\n    from flwr.clientapp import ClientApp\n    return ClientApp()\n")
    path = module.__file__
    with open(path, "w") as file:
        file.write("raise ImportError('only here')\n")
    with (
        pytest.raises(FedunlearnError, match=r"cannot be had in a worker process \(ImportError: only here\)"),
        LocalGrid(module.build, clients=2, workers=1, pool=pool) as grid,
    ):
        list(grid.send_and_receive(to_all(grid)))


def test_workers_import_what_the_app_needs(pool, client_module):
    """As a method of a user's own, which a module registers when it is imported."""
    plugin = client_module("known = []\n")
    plugin.known.append("here")
    # A worker that imports it anew finds what its file says.
    with open(plugin.__file__, "w") as file:
        file.write("known = ['there']\n")
    name, app = plugin.__name__, ClientApp()

    @app.query()
    def what(message, context):
        import sys

        known = sys.modules[name].known if name in sys.modules else []
        return Message(RecordDict({"known": ConfigRecord({"known": known})}), reply_to=message)

    def known(**others):
        with LocalGrid(app, clients=2, pool=pool, **others) as grid:
            return [reply.content["known"]["known"] for reply in grid.send_and_receive(to_all(grid, "query"))]

    assert known(workers=1) == [[], []]
    assert known(workers=1, imports=[name]) == [["there"]] * 2
    assert known(workers="auto", imports=["__main__"]) == [["here"]] * 2
    with pytest.raises(SettingsError, match="this script registers a task, method or the like itself"):
        known(workers=1, imports=["__main__"])
    with pytest.raises(FedunlearnError, match="ModuleNotFoundError: No module named 'nowhere_at_all'"):
        known(workers=1, imports=["nowhere_at_all"])


def test_an_app_that_cannot_be_copied_is_refused(pool):
    lock = __import__("threading").Lock()
    app = ClientApp()
    app.train()(lambda message, context: lock.acquire())
    with pytest.raises(SettingsError, match="pass an importable function"):
        LocalGrid(app, clients=2, workers=1, pool=pool)


@pytest.mark.parametrize("workers", [-1, "many", 1.5])
def test_wrong_numbers_of_workers_are_refused(build_app, workers):
    with pytest.raises(SettingsError, match="'auto', or a number of processes"):
        LocalGrid(build_app(), clients=2, workers=workers)


def test_ctrl_c_ends_the_workers_that_are_at_work(build_app):
    def interrupted(client, message, context):
        if client == 0:
            raise KeyboardInterrupt
        time.sleep(60)

    with WorkerPool() as own:
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt), LocalGrid(build_app(interrupted), 2, workers=2, pool=own) as grid:
            list(grid.send_and_receive(to_all(grid)))
        assert time.monotonic() - began < 30
        # The pool is as good as new.
        with LocalGrid(build_app(), clients=2, workers=2, pool=own) as grid:
            assert reasons(grid.send_and_receive(to_all(grid))) == [None, None]
