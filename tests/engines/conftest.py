"""Tiny Flower apps in numpy, so that a test of an engine takes milliseconds."""

from __future__ import annotations

import hashlib
import importlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import numpy as np
import pytest
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from fedunlearn.engines.worker_pool import WorkerPool

Behaviour = Callable[[int, Message, Context], None]


def _build_app(behaviour: Behaviour | None = None) -> ClientApp:
    # The functions are nested on purpose: Ray then sends them by value, as it does for a notebook's.
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        client = int(context.node_config["partition-id"])
        calls = context.state["calls"]["number"] + 1 if "calls" in context.state else 1
        context.state["calls"] = MetricRecord({"number": calls})
        if behaviour is not None:
            behaviour(client, message, context)
        arrays = [
            array * np.float32(0.7) + np.float32(0.1) * client
            for array in message.content["arrays"].to_numpy_ndarrays()
        ]
        metrics = MetricRecord({"num-examples": client + 1, "calls": calls, "client": client})
        return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return Message(RecordDict({"metrics": MetricRecord({"num-examples": 1, "loss": 0.5})}), reply_to=message)

    return app


def _averaged(grid: Grid, rounds: int = 3) -> str:
    """A server of its own: the plain mean of all answers, in the order of the replies; returns a digest."""
    arrays = [np.linspace(0, 1, 50, dtype=np.float32), np.ones((3, 4), dtype=np.float32)]
    for _ in range(rounds):
        content = RecordDict({"arrays": ArrayRecord(arrays)})
        replies = grid.send_and_receive([Message(content, node, "train") for node in grid.get_node_ids()])
        answers = [reply.content["arrays"].to_numpy_ndarrays() for reply in replies if reply.has_content()]
        arrays = [sum(parts[1:], start=parts[0]) / np.float32(len(parts)) for parts in zip(*answers, strict=True)]
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


@pytest.fixture
def build_app() -> Callable[..., ClientApp]:
    """Makes a ClientApp whose train function first calls behaviour(client, message, context)."""
    return _build_app


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    """Worker processes for the tests of one module: starting them takes a second."""
    with WorkerPool() as pool:
        yield pool


@pytest.fixture
def client_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a module of this source text in a way that worker processes can as well."""
    monkeypatch.syspath_prepend(tmp_path)

    def imported(source: str) -> ModuleType:
        # A name of its own: workers keep the modules of earlier tests.
        name = f"clients_{secrets.token_hex(4)}"
        (tmp_path / f"{name}.py").write_text(dedent(source), encoding="utf-8")
        return importlib.import_module(name)

    return imported


@pytest.fixture
def averaged() -> Callable[..., str]:
    """A server_main that returns the digest of the averaged model."""
    return _averaged
