"""A real client's place, and a grid of real clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict

from fedunlearn.channels.packing import digest_state
from fedunlearn.clients.app import client_app
from fedunlearn.clients.site import Site, site_from_context
from fedunlearn.config import FederationSettings, UnlearnSettings, run_config_of
from fedunlearn.engines.flower_compat import ensure_identity
from fedunlearn.engines.local import FIRST_NODE_ID, LocalGrid
from fedunlearn.strategies.content import ARRAYS, BASE, CONFIG, array_record

Ask = Callable[..., Message]

SETTINGS = FederationSettings(task="digits", clients=3, partition="iid", local_epochs=1, learning_rate=0.1, rounds=2)


@pytest.fixture(autouse=True)
def identity() -> None:
    """Without one Flower makes no message; a grid brings it, and some tests have none."""
    ensure_identity()


@pytest.fixture
def run_config(tmp_path: Path) -> dict[str, object]:
    return {**run_config_of(SETTINGS), "out": str(tmp_path / "run")}


@pytest.fixture
def site_of(run_config: dict) -> Callable[[int], Site]:
    """The place of a client of a federation with nothing trained yet."""

    def find(client: int) -> Site:
        return site_from_context(Context(1, 1, {"partition-id": client}, RecordDict(), run_config))

    return find


@pytest.fixture
def ask(run_config: dict) -> Iterator[Ask]:
    """`ask(client, message type, content)`: what the real app of a client answers."""
    grids: list[LocalGrid] = []

    def send(client: int, kind: str, content: RecordDict | None = None) -> Message:
        if not grids:
            grids.append(LocalGrid(client_app, 3, run_config))
        message = Message(content or RecordDict(), FIRST_NODE_ID + client, kind)
        return grids[0].send_and_receive([message])[0]

    yield send
    for grid in grids:
        grid.close()


@pytest.fixture
def model(site_of: Callable[[int], Site]) -> dict:
    """A fresh model of the federation, as arrays by name."""
    task = site_of(0).task
    state = task.build(None, 7, task.dataset(0)).state_dict()
    return {name: tensor.numpy() for name, tensor in state.items()}


@pytest.fixture
def phase_content(model: dict) -> Callable[..., RecordDict]:
    """The content of a phase's message, the base within; further records by name."""

    def make(method: str = "fine-tune", phase: int = 0, requests: list[str] | None = None, **records: object):
        settings = UnlearnSettings(method=method, rounds=1)
        config = {
            "method": method,
            "phase": phase,
            "rounds": 2,
            "requests": requests or [],
            "base": digest_state(model),
            "seed": 5,
            "settings": settings.model_dump_json(),
        }
        content = RecordDict({CONFIG: ConfigRecord(config), BASE: array_record(model)})
        content[ARRAYS] = array_record(model)
        for name, record in records.items():
            content[name] = record  # type: ignore[assignment]
        return content

    return make


@pytest.fixture
def train_content(model: dict) -> RecordDict:
    """The content of an ordinary round's message."""
    arrays: ArrayRecord = array_record(model)
    return RecordDict({ARRAYS: arrays, CONFIG: ConfigRecord({"server-round": 1, "seed": 0})})
