"""The Ray engine: Flower's own simulation runtime, quiet, with the server in the calling thread."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from fedunlearn.engines.answering import ClientAppSource, GuardedClientApp, RunConfig, load_client_app
from fedunlearn.engines.flower_compat import node_ids_by_partition
from fedunlearn.engines.local import OnReply
from fedunlearn.engines.quiet import quiet_flower
from fedunlearn.engines.ray_cost import advice
from fedunlearn.engines.simulation_grid import SimulationGrid
from fedunlearn.engines.worker_pool import cores
from fedunlearn.errors import FedunlearnError, SettingsError

T = TypeVar("T")

log = logging.getLogger("fedunlearn.engines")

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
}
_START_SECONDS = 300.0


def run_on_ray(
    server_main: Callable[[Grid], T],
    client_app: ClientAppSource,
    clients: int,
    run_config: RunConfig | None = None,
    timeout: float | None = None,
    on_reply: OnReply | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
) -> T:
    """Return what `server_main(grid)` returns, with the clients in Ray worker processes.

    Ray starts with the call and stops with it (about 10 s), or joins the cluster of $RAY_ADDRESS. An
    app given as an importable function is built once in each worker process, and what its module
    caches lives as long; an app given as an object is sent along with every message.

    Args:
        server_main, client_app, clients, run_config, timeout, on_reply: see `fedunlearn.engines.run`.
        cpus: CPUs a client takes (> 0); how many clients run at a time follows from it.
        gpus: GPUs a client takes; a fraction lets clients share one.

    Raises:
        SettingsError: a number is out of range, or client_app gives no ClientApp.
        FedunlearnError: Ray or Flower's simulation did not start or broke down.
    """
    if clients < 1:
        raise SettingsError(f"clients is {clients}: a federation needs at least 1 client")
    if timeout is not None and timeout <= 0:
        raise SettingsError(f"timeout is {timeout:g} s: give a number above 0, or None to wait for ever")
    if cpus <= 0 or gpus < 0:
        raise SettingsError(f"cpus is {cpus:g} and gpus {gpus:g}: cpus must be above 0, gpus 0 or more")
    load_client_app(client_app)
    if (sentence := advice(clients, cores(), "RAY_ADDRESS" in os.environ, gpus)) is not None:
        log.warning("%s", sentence)
    guarded = GuardedClientApp(client_app, run_config or {}, timeout)
    # Flower logs each failure of a client with its traceback; here it comes with the reply instead.
    with _environment(), quiet_flower(logging.CRITICAL), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        simulation = _Simulation(guarded, clients, {"num_cpus": cpus, "num_gpus": gpus})
        try:
            grid = simulation.start()
            return server_main(SimulationGrid(grid, simulation.check, on_reply))
        finally:
            simulation.stop()


class _Simulation:
    """Flower's simulation in a thread of its own, so that the server can stay in the caller's."""

    def __init__(self, client_app: GuardedClientApp, clients: int, resources: dict[str, float]) -> None:
        self._clients = clients
        self._grids: queue.SimpleQueue[Grid] = queue.SimpleQueue()
        self._server_done = threading.Event()
        self._failure: BaseException | None = None
        server_app = ServerApp()

        @server_app.main()
        def hand_over(grid: Grid, context: Context) -> None:
            self._grids.put(grid)
            self._server_done.wait()

        def simulate() -> None:
            try:
                run_simulation(
                    server_app,
                    client_app,
                    num_supernodes=clients,
                    backend_config={
                        "client_resources": dict(resources),
                        "init_args": {"log_to_driver": False, "logging_level": "ERROR"},
                    },
                )
            except BaseException as error:
                self._failure = error

        self._thread = threading.Thread(target=simulate, name="fedunlearn-ray", daemon=True)

    def start(self) -> Grid:
        """Return the grid once every client has its node."""
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        grid: Grid | None = None
        while time.monotonic() < deadline:
            self.check()
            try:
                grid = grid or self._grids.get(timeout=0.05)
            except queue.Empty:
                continue
            if len(node_ids_by_partition(grid)) == self._clients:
                return grid
            time.sleep(0.01)
        raise FedunlearnError(
            f"Flower's simulation gave no grid within {_START_SECONDS:g} s: see whether Ray starts on this machine"
        )

    def check(self) -> None:
        """Raise if the simulation has ended, for then no reply will ever come."""
        if self._thread.is_alive():
            return
        cause = self._failure
        while cause is not None and cause.__cause__ is not None:
            cause = cause.__cause__
        reason = "it ended" if cause is None else " ".join(f"{type(cause).__name__}: {cause}".split())
        raise FedunlearnError(
            f"Flower's simulation on Ray broke down ({reason}): try the local engine, or fewer CPUs a client"
        ) from self._failure

    def stop(self) -> None:
        """Let the simulation shut Ray down and wait for it."""
        self._server_done.set()
        if self._thread.ident is not None:
            self._thread.join()


@contextmanager
def _environment() -> Iterator[None]:
    """Set what keeps Ray and Flower quiet and off the network; afterwards everything is as it was."""
    before = {name: os.environ.get(name) for name in [*_ENVIRONMENT, "PYTHONPATH"]}
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        # Flower's Ray backend lengthens PYTHONPATH with each run.
        for name, old in before.items():
            if old is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = old
