from __future__ import annotations

import logging
import os

import pytest
from flwr.app import ArrayRecord, Message, RecordDict

from fedunlearn.engines import run
from fedunlearn.errors import SettingsError

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("arguments", "match"),
    [({"clients": 0}, "at least 1 client"), ({"clients": 2, "timeout": -1.0}, "above 0")],
)
def test_wrong_arguments_are_refused_before_ray_starts(build_app, arguments, match):
    with pytest.raises(SettingsError, match=match):
        run("ray", lambda grid: None, build_app(), **arguments)


def test_ray_gives_the_same_digest_the_same_sentences_and_leaves_no_trace(build_app, averaged):
    """One start of Ray (about 10 s) for everything that has to hold on it."""

    def trouble(client, message, context):
        import signal
        import time

        if message.metadata.group_id != "trouble":
            return
        context.state["rubbish"] = context.state["calls"]
        if client == 0:
            raise ValueError("two\nlines")
        if client == 1:
            raise SystemExit(3)
        if client == 2:
            time.sleep(30)
        if client == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    def server(grid):
        nodes = grid.get_node_ids()
        digest = averaged(grid)
        content = RecordDict({"arrays": ArrayRecord()})
        troubled = grid.send_and_receive([Message(content, n, "train", group_id="trouble") for n in nodes[:-1]])
        missing = grid.send_and_receive([Message(content, 77, "train")])
        reasons = [reply.error.reason for reply in (*troubled, *missing)]
        seen.extend([digest, reasons])
        return digest

    seen: list[object] = []
    heard: list[bool] = []
    level, python_path = logging.getLogger("flwr").level, os.environ.get("PYTHONPATH")
    on_ray = run(
        "ray",
        server,
        build_app(trouble),
        clients=5,
        timeout=2,
        on_reply=lambda reply: heard.append(reply.has_error()),
    )

    assert on_ray == run("local", averaged, build_app(), clients=5)
    assert seen[1] == [
        "client 0 raised ValueError: two lines",
        "client 1 left its process with exit status 3",
        "client 2 did not answer within 2 s",
        "client 3 died with its worker process",
        "no client has node id 77: the nodes here are those of get_node_ids()",
    ]
    assert heard.count(False) == 15 and heard.count(True) == 5
    assert logging.getLogger("flwr").level == level
    assert os.environ.get("PYTHONPATH") == python_path
