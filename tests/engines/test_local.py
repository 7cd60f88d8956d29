from __future__ import annotations

import logging
import threading
import time

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg, FedMedian

from fedunlearn.engines import LocalGrid, run
from fedunlearn.errors import RequestError, SettingsError


def content():
    return RecordDict({"arrays": ArrayRecord([np.zeros(4, dtype=np.float32)])})


def to_all(grid, kind="train"):
    return [Message(content(), node, kind) for node in grid.get_node_ids()]


def reasons(replies):
    return [reply.error.reason if reply.has_error() else None for reply in replies]


def test_same_digest_twice_and_another_with_other_clients(build_app, averaged):
    first, second = (run("local", averaged, build_app(), clients=5) for _ in range(2))
    assert first == second
    assert first != run("local", averaged, build_app(), clients=4)


def test_a_timeout_changes_nothing_for_clients_in_time(build_app, averaged):
    assert run("local", averaged, build_app(), 3, timeout=30) == run("local", averaged, build_app(), 3)


def test_flower_strategies_run_on_it(build_app):
    initial = ArrayRecord([np.full(5, 2.0, dtype=np.float32)])

    result = run(
        "local",
        lambda grid: FedAvg().start(grid, initial_arrays=initial, num_rounds=2),
        build_app(),
        clients=3,
    )

    # One round maps x to 0.7 x + 0.1 * weighted mean of the client numbers (weights 1, 2, 3).
    shift = 0.1 * (1 * 0 + 2 * 1 + 3 * 2) / 6
    expected = 0.7 * (0.7 * 2.0 + shift) + shift
    np.testing.assert_allclose(result.arrays["0"].numpy(), expected, rtol=1e-6)
    assert result.train_metrics_clientapp[2]["calls"] == pytest.approx(2)
    assert result.evaluate_metrics_clientapp[2]["loss"] == pytest.approx(0.5)


def test_a_robust_flower_strategy_runs_on_it_although_a_client_fails(build_app):
    def last_fails(client, message, context):
        if client == 4:
            raise ValueError("no data today")

    with LocalGrid(build_app(last_fails), clients=5) as grid:
        result = FedMedian().start(grid, initial_arrays=ArrayRecord([np.zeros(2, dtype=np.float32)]), num_rounds=1)
    np.testing.assert_allclose(result.arrays["0"].numpy(), 0.15, rtol=1e-6)


def test_replies_come_in_the_order_of_the_messages_and_name_them(build_app):
    with LocalGrid(build_app(), clients=3) as grid:
        messages = list(reversed(to_all(grid))) + to_all(grid)[:1]
        replies = list(grid.send_and_receive(messages))
    assert [reply.metadata.reply_to_message_id for reply in replies] == [m.metadata.message_id for m in messages]
    assert [reply.content["metrics"]["client"] for reply in replies] == [2, 1, 0, 0]
    assert [reply.metadata.src_node_id for reply in replies] == [m.metadata.dst_node_id for m in messages]
    assert len({reply.metadata.message_id for reply in replies}) == 4


def test_push_and_pull_match_by_message_id(build_app):
    with LocalGrid(build_app(), clients=3) as grid:
        ids = grid.push_messages(to_all(grid))
        assert len(set(ids)) == 3
        second = grid.pull_messages([ids[1]])
        assert [reply.metadata.reply_to_message_id for reply in second] == [ids[1]]
        rest = grid.pull_messages([*ids, "unknown"])
        assert [reply.metadata.reply_to_message_id for reply in rest] == [ids[0], ids[2]]
        assert grid.pull_messages(ids) == []


def test_a_reply_cannot_be_pushed_as_a_message(build_app):
    with LocalGrid(build_app(), clients=1) as grid:
        (reply,) = grid.send_and_receive(to_all(grid))
        with pytest.raises(ValueError, match="not a message"):
            grid.push_messages([reply])


def test_context_tells_partition_and_run_config():
    app = ClientApp()

    @app.query()
    def who(message, context):
        facts = ConfigRecord(
            {
                "partition": context.node_config["partition-id"],
                "of": context.node_config["num-partitions"],
                "rate": context.run_config["rate"],
                "node": context.node_id,
                "run": context.run_id,
            }
        )
        context.run_config["rate"] = 99.0
        context.node_config["partition-id"] = 99
        return Message(RecordDict({"facts": facts}), reply_to=message)

    with LocalGrid(app, clients=2, run_config={"rate": 0.5}) as grid:
        for _ in range(2):
            facts = [dict(reply.content["facts"]) for reply in grid.send_and_receive(to_all(grid, "query"))]
            assert facts == [
                {"partition": number, "of": 2, "rate": 0.5, "node": node, "run": grid.run.run_id}
                for number, node in enumerate(grid.get_node_ids())
            ]


def test_state_lasts_and_is_rolled_back_when_the_client_raises(build_app):
    fail = {"now": False}

    def sometimes(client, message, context):
        if fail["now"]:
            context.state["rubbish"] = ConfigRecord({"x": 1})
            context.state["calls"]["number"] = 1000
            raise RuntimeError("broken")

    with LocalGrid(build_app(sometimes), clients=1) as grid:
        seen = []
        for fails in (False, True, False):
            fail["now"] = fails
            (reply,) = grid.send_and_receive(to_all(grid))
            seen.append(reply.content["metrics"]["calls"] if reply.has_content() else reply.error.reason)
    assert seen == [1, "client 0 raised RuntimeError: broken", 2]


def test_a_client_cannot_change_what_server_or_other_clients_hold():
    app = ClientApp()

    @app.train()
    def vandal(message, context):
        assert message.content["config"]["list"] == [1, 2]
        values = message.content["arrays"].to_numpy_ndarrays(keep_input=False)
        values[0][:] = 7
        message.content["config"]["list"].append(3)
        message.content["config"]["new"] = 1
        message.metadata.dst_node_id = 5
        kept = MetricRecord({"list": [1]})
        context.state["kept"] = kept
        return Message(RecordDict({"kept": kept}), reply_to=message)

    shared = RecordDict(
        {"arrays": ArrayRecord([np.zeros(3, dtype=np.float32)]), "config": ConfigRecord({"list": [1, 2]})}
    )
    with LocalGrid(app, clients=3) as grid:
        for _ in range(2):
            messages = [Message(shared, node, "train") for node in grid.get_node_ids()]
            replies = list(grid.send_and_receive(messages))
            assert reasons(replies) == [None] * 3
            assert [reply.content["kept"]["list"] for reply in replies] == [[1]] * 3
            for reply in replies:
                reply.content["kept"]["list"].append(2)
    assert dict(shared["config"]) == {"list": [1, 2]}
    assert shared["arrays"]["0"].numpy().tolist() == [0, 0, 0]
    assert [message.metadata.dst_node_id for message in messages] == grid.get_node_ids()


def test_arrays_are_shared_not_copied():
    app = ClientApp()
    seen = []

    @app.train()
    def look(message, context):
        seen.append(message.content["arrays"]["0"])
        return Message(RecordDict({"arrays": message.content["arrays"]}), reply_to=message)

    record = content()
    with LocalGrid(app, clients=2) as grid:
        replies = grid.send_and_receive([Message(record, node, "train") for node in grid.get_node_ids()])
    arrays = [*seen, *(reply.content["arrays"]["0"] for reply in replies)]
    assert all(array is record["arrays"]["0"] for array in arrays)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("two\nlines"), "client 1 raised ValueError: two lines"),
        (KeyError(), "client 1 raised KeyError"),
        (RequestError("holds no sample of class 3"), "client 1: holds no sample of class 3"),
        (RequestError("client 1 holds no sample of class 3"), "client 1 holds no sample of class 3"),
        (SystemExit(4), "client 1 left its process with exit status 4"),
        (SystemExit(), "client 1 left its process with exit status 0"),
    ],
)
@pytest.mark.parametrize("timeout", [None, 30.0])
def test_what_a_client_raises_becomes_one_sentence(build_app, caplog, error, sentence, timeout):
    def one_fails(client, message, context):
        if client == 1:
            raise error

    with caplog.at_level(logging.INFO), LocalGrid(build_app(one_fails), clients=3, timeout=timeout) as grid:
        replies = grid.send_and_receive(to_all(grid))
    assert reasons(replies) == [None, sentence, None]
    (record,) = [record for record in caplog.records if record.name == "fedunlearn.clients"]
    assert record.getMessage().startswith(sentence) and "Traceback" in record.getMessage()


def test_a_long_error_text_is_cut(build_app):
    def fails(client, message, context):
        raise ValueError("x" * 10_000)

    with LocalGrid(build_app(fails), clients=1) as grid:
        (reason,) = reasons(grid.send_and_receive(to_all(grid)))
    assert len(reason) < 400 and reason.endswith("…")


def test_ctrl_c_stops_the_run(build_app):
    def interrupted(client, message, context):
        raise KeyboardInterrupt

    with LocalGrid(build_app(interrupted), clients=2) as grid, pytest.raises(KeyboardInterrupt):
        list(grid.send_and_receive(to_all(grid)))


def test_a_wrong_answer_is_named():
    app = ClientApp()
    app.train()(lambda message, context: None)
    app.query()(lambda message, context: message)
    with LocalGrid(app, clients=1) as grid:
        (nothing,) = reasons(grid.send_and_receive(to_all(grid)))
        (itself,) = reasons(grid.send_and_receive(to_all(grid, "query")))
        (unknown,) = reasons(grid.send_and_receive(to_all(grid, "query.dance")))
    assert "returned a NoneType where a Message was expected" in nothing
    assert "Message(..., reply_to=message)" in itself
    assert "dance" in unknown


def test_a_client_that_hangs_is_cut_and_the_others_go_on(build_app):
    release = threading.Event()
    entered = []

    def one_hangs(client, message, context):
        if client == 1:
            entered.append(threading.current_thread())
            context.state["late"] = ConfigRecord({"x": 1})
            release.wait(20)

    with LocalGrid(build_app(one_hangs), clients=3, timeout=0.2) as grid:
        started = time.monotonic()
        first, second = (grid.send_and_receive(to_all(grid)) for _ in range(2))
        assert time.monotonic() - started < 5
        assert reasons(first) == [None, "client 1 did not answer within 0.2 s", None]
        busy = "client 1 is still busy with an earlier message that it did not answer in time"
        assert reasons(second) == [None, busy, None]

        release.set()
        entered[0].join(10)
        (reply,) = grid.send_and_receive([Message(content(), grid.get_node_ids()[1], "train")])
    # The call that came too late left nothing behind.
    assert reply.content["metrics"]["calls"] == 1
    assert len(entered) == 2


def test_the_time_of_an_exchange_counts_for_each_client_and_the_shorter_limit_holds(build_app):
    release = threading.Event()

    def first_hangs(client, message, context):
        if client == 0:
            release.wait(20)
        else:
            time.sleep(0.1)

    with LocalGrid(build_app(first_hangs), clients=5, timeout=15) as grid:
        replies = grid.send_and_receive(to_all(grid), timeout=0.3)
    release.set()
    assert reasons(replies) == ["client 0 did not answer within 0.3 s", None, None, None, None]


def test_an_unknown_node_is_answered_with_an_error(build_app):
    with LocalGrid(build_app(), clients=2) as grid:
        (reason,) = reasons(grid.send_and_receive([Message(content(), 77, "train")]))
    assert reason == "no client has node id 77: the nodes here are 1000 to 1001"


def test_on_reply_sees_each_reply_as_it_comes(build_app):
    def second_fails(client, message, context):
        log.append(f"ran {client}")
        if client == 1:
            raise ValueError

    log: list[str] = []
    with LocalGrid(
        build_app(second_fails),
        clients=2,
        on_reply=lambda reply: log.append("error" if reply.has_error() else "content"),
    ) as grid:
        grid.send_and_receive(to_all(grid))
    assert log == ["ran 0", "content", "ran 1", "error"]


def test_a_factory_is_called_once(build_app):
    calls = []

    def factory():
        calls.append(1)
        return build_app()

    with LocalGrid(factory, clients=3) as grid:
        assert reasons(grid.send_and_receive(to_all(grid))) == [None] * 3
    assert len(calls) == 1


def test_two_grids_at_a_time_do_not_disturb_each_other(build_app, averaged):
    results: dict[int, str] = {}

    def work(clients):
        with LocalGrid(build_app(), clients=clients, timeout=30) as grid:
            results[clients] = averaged(grid, 5)

    threads = [threading.Thread(target=work, args=(clients,)) for clients in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for clients in (2, 3):
        with LocalGrid(build_app(), clients=clients) as grid:
            assert results[clients] == averaged(grid, 5)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"clients": 0}, "at least 1 client"),
        ({"clients": 2, "timeout": 0.0}, "above 0"),
        ({"clients": 2, "client_app": lambda: "no app"}, "gave a str"),
    ],
)
def test_wrong_arguments_are_refused(build_app, arguments, match):
    with pytest.raises(SettingsError, match=match):
        LocalGrid(**{"client_app": build_app(), **arguments})


def test_run_and_create_message_as_flower_has_them(build_app):
    with LocalGrid(build_app(), clients=1) as grid:
        message = grid.create_message(content(), "train", grid.get_node_ids()[0], "3")
        (reply,) = grid.send_and_receive([message])
        assert reply.metadata.group_id == "3"
        assert reply.metadata.run_id == grid.run.run_id
        assert [node.node_id for node in grid.get_nodes()] == grid.get_node_ids()
        other = grid.run
        other.run_id = 5
        grid.set_run(other)
        assert grid.run.run_id == 5


def test_a_legacy_context_without_partition_is_named_by_its_node():
    from fedunlearn.engines.answering import client_name

    context = Context(run_id=1, node_id=7, node_config={}, state=RecordDict(), run_config={})
    assert client_name(context) == "client on node 7"
