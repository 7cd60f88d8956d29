"""A federation whose clients have filed one request of every scope, without a ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message
from torch import Tensor

from fedunlearn.channels.mask import ChannelMask
from fedunlearn.clients.app import client_app
from fedunlearn.clients.filing import file_request
from fedunlearn.clients.site import Site, site_from_context
from fedunlearn.config import UnlearnSettings, run_config_of
from fedunlearn.engines.local import LocalGrid
from fedunlearn.federation import Federation
from fedunlearn.server.branches import MAIN, wrapped_strategy
from fedunlearn.server.history import history_of
from fedunlearn.server.session import Session
from fedunlearn.strategies.asked import acts_in_training
from fedunlearn.strategies.method import Method, ModelState, State, methods
from fedunlearn.strategies.roster import Roster, call_roll
from fedunlearn.strategies.serving import Job, PhaseReport, serve
from fedunlearn.strategies.unlearning import UnlearningStrategy

STAYING = (0, 2, 3, 4)
"""Clients of `place` that keep samples, whatever is served."""


@dataclass
class Witness:
    """A recorder that remembers what it was told."""

    reports: list[PhaseReport] = field(default_factory=list)
    before: list[State] = field(default_factory=list)
    after: list[State] = field(default_factory=list)

    def resume(self, state: State) -> tuple[int, State]:
        return 0, state

    def record(self, before: State, after: State, report: PhaseReport) -> None:
        self.reports.append(report)
        self.before.append(before)
        self.after.append(after)


@dataclass(frozen=True)
class Place:
    """A grid of real clients, what the server knows of them, and a job of every scope."""

    session: Session
    grid: LocalGrid
    roster: Roster
    strategy: UnlearningStrategy
    model: ModelState
    jobs: dict[str, Job]
    sites: dict[int, Site]
    staying: tuple[int, ...]
    heard: list[Message]
    """Every reply since the last time that this was cleared."""
    server_data: Tensor
    """Inputs that nobody trained on."""

    def state(self, scope: str, settings: UnlearnSettings, mask: ChannelMask | None = None) -> State:
        state = self.strategy.state_for(self.jobs[scope], self.model, settings)
        supplied = replace(state, server_data=self.server_data, task=self.session.task, prepared_for=prepared_methods())
        return replace(supplied, mask=mask, history=history_of(self.session, self.jobs[scope], state.rounds))

    def serve(
        self, scope: str, settings: UnlearnSettings, mask: ChannelMask | None = None, **options: Any
    ) -> tuple[State, Witness]:
        method: Method = options.pop("method", None) or methods.get(settings.method)
        state, witness = self.state(scope, settings, mask), Witness()
        roster = options.pop("roster", self.roster)
        return serve(self.grid, roster, method, state, self.jobs[scope], witness, 60.0, **options), witness


def prepared_methods() -> tuple[str, ...]:
    """Methods that need something done while the federation trains."""
    return tuple(name for name in methods.names() if acts_in_training(methods.get(name)))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Five clients, of whom client 1 leaves with everything; every method that asks for it was prepared for."""
    folder = tmp_path_factory.mktemp("place") / "run"
    recipe = {"rounds": 2, "local_epochs": 3, "prepare_for": ",".join(prepared_methods())}
    with a_place(folder, "digits", recipe) as made:
        yield made


@pytest.fixture(scope="session")
def image_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The same five clients, who complete images; what can be prepared for such a task was."""
    folder = tmp_path_factory.mktemp("images") / "run"
    able = [name for name in prepared_methods() if "class-scores" not in methods.get(name).needs]
    recipe = {"rounds": 2, "local_epochs": 1, "prepare_for": ",".join(able)}
    with a_place(folder, "inpainting:digits", recipe) as made:
        yield made


@contextmanager
def a_place(folder: Path, task: str, recipe: dict[str, Any]) -> Iterator[Place]:
    """A trained federation with a request of every scope, and a grid of its clients."""
    federation = Federation.simulate(task, clients=5, partition="iid", learning_rate=0.1, out=folder, **recipe)
    federation.train()
    session = federation._session()
    run_config = {**run_config_of(federation.settings), "out": str(folder)}
    sites = {}
    for client in range(5):
        from flwr.app import Context, RecordDict

        sites[client] = site_from_context(Context(1, 1, {"partition-id": client}, RecordDict(), dict(run_config)))
    first = sites[0]
    some = [p for p in first.holding.training_positions().tolist() if first.holding.samples.labels[p] > 2][:25]
    filed = {
        "samples": [file_request(first.folder, first.holding, samples=some)],
        "classes": [file_request(first.folder, first.holding, classes=[1])],
        "client": [file_request(sites[1].folder, sites[1].holding)],
        "class-everywhere": [
            file_request(sites[c].folder, sites[c].holding, classes=[2], everywhere="class-2") for c in STAYING
        ],
    }
    jobs = {
        scope: Job(
            (requests[0].id,),
            tuple(one.client for one in requests),
            frozenset({scope}),  # type: ignore[arg-type]
            (2,) if scope == "class-everywhere" else (),
        )
        for scope, requests in filed.items()
    }
    heard: list[Message] = []
    with LocalGrid(client_app, 5, run_config, timeout=60.0, on_reply=heard.append) as grid:
        roster = call_roll(grid, 60.0)
        branch = session.ledger.branch(MAIN)
        assert branch is not None
        model = session.models.load(branch.head)
        server_data = session.dataset.test.inputs[:100]
        strategy = wrapped_strategy(session)
        yield Place(session, grid, roster, strategy, model, jobs, sites, STAYING, heard, server_data)
