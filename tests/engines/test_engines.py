from __future__ import annotations

import logging

import pytest

from fedunlearn.engines import quiet_flower, run
from fedunlearn.errors import SettingsError


def test_an_unknown_engine_is_refused(build_app):
    with pytest.raises(SettingsError, match="'clay' is unknown: the engines are local and ray"):
        run("clay", lambda grid: None, build_app(), clients=1)


def test_the_result_and_the_errors_of_the_server_come_through(build_app):
    assert run("local", lambda grid: len(grid.get_node_ids()), build_app(), clients=4) == 4
    with pytest.raises(ZeroDivisionError):
        run("local", lambda grid: 1 / 0, build_app(), clients=1)


def test_flower_is_quiet_in_a_run_and_as_before_after_it(build_app, averaged):
    logger = logging.getLogger("flwr")
    before = logger.level
    levels = run("local", lambda grid: (logger.level, averaged(grid)), build_app(), clients=2)
    assert levels[0] == logging.WARNING
    assert logger.level == before


def test_a_stricter_level_of_the_user_is_kept():
    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with quiet_flower():
            assert logger.level == logging.CRITICAL
        assert logger.level == logging.CRITICAL
    finally:
        logger.setLevel(before)


@pytest.mark.parametrize("timeout", [None, 30.0])
def test_clients_and_server_have_one_torch_thread_and_the_caller_what_it_had(build_app, timeout):
    torch = pytest.importorskip("torch")
    seen: list[int] = []

    def server(grid):
        from flwr.app import Message, RecordDict

        seen.append(torch.get_num_threads())
        grid.send_and_receive([Message(RecordDict(), node, "train") for node in grid.get_node_ids()])

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(
            "local",
            server,
            build_app(lambda client, message, context: seen.append(torch.get_num_threads())),
            clients=2,
            timeout=timeout,
        )
        assert seen == [1, 1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
