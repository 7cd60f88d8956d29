from __future__ import annotations

from collections.abc import Callable

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedunlearn.clients.app import add_erasure, client_app
from fedunlearn.clients.site import Site
from fedunlearn.config import UnlearnSettings
from fedunlearn.engines.local import LocalGrid
from fedunlearn.strategies import methods
from fedunlearn.strategies.content import CONFIG
from fedunlearn.strategies.selective_channels import STEPS


@pytest.mark.parametrize("name", methods.names())
def test_every_message_of_every_method_has_a_handler(ask: Callable[..., Message], name: str) -> None:
    # Of two rounds FedEraser replays none, of many all methods have all their phases.
    phases = [phase for rounds in (2, 15) for phase in methods.get(name).phases(UnlearnSettings(method=name), rounds)]
    for message in dict.fromkeys(phase.message for phase in phases):
        reason = ask(0, message).error.reason
        # An empty message is refused by the handler itself, not for want of one.
        assert reason == f"a {message!r} message came without its record 'config'."


@pytest.mark.parametrize("step", STEPS)
def test_every_forget_step_has_a_handler(ask: Callable[..., Message], step: str) -> None:
    settings = UnlearnSettings(options={"forget_step": step})
    for phase in methods.get("selective-channels").phases(settings, rounds=2):
        assert "came without its record" in ask(0, phase.message).error.reason


def test_a_stranger_s_message_is_an_error(ask: Callable[..., Message]) -> None:
    assert ask(0, "query.everything").has_error()


def test_two_apps_are_independent() -> None:
    assert client_app() is not client_app()


def test_erasure_stands_beside_an_app_s_own_handlers(site_of: Callable[[int], Site]) -> None:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return Message(RecordDict(), reply_to=message)

    assert add_erasure(app, lambda context: site_of(int(context.node_config["partition-id"]))) is app
    with LocalGrid(app, 3) as grid:
        node = grid.get_node_ids()[1]
        trained, announced = grid.send_and_receive(
            [Message(RecordDict(), node, "train"), Message(RecordDict(), node, "query.requests")]
        )
    assert trained.has_content()
    assert announced.content.config_records[CONFIG]["client"] == 1
