"""Who runs the clients: this process or workers of its own (`local`), or Flower's simulation on Ray (`ray`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from flwr.serverapp import Grid

from fedunlearn.engines.answering import ClientAppSource, RunConfig
from fedunlearn.engines.heap import heap_set_aside
from fedunlearn.engines.local import LocalGrid, OnReply, Workers
from fedunlearn.engines.quiet import quiet_flower
from fedunlearn.engines.torch_threads import one_torch_thread
from fedunlearn.engines.worker_pool import close_pool
from fedunlearn.errors import SettingsError

T = TypeVar("T")

ENGINES = ("local", "ray")

__all__ = ["ENGINES", "ClientAppSource", "LocalGrid", "OnReply", "Workers", "close_pool", "quiet_flower", "run"]


def run(
    engine: str,
    server_main: Callable[[Grid], T],
    client_app: ClientAppSource,
    clients: int,
    run_config: RunConfig | None = None,
    timeout: float | None = None,
    on_reply: OnReply | None = None,
    workers: Workers = "auto",
    imports: Sequence[str] = (),
) -> T:
    """Return what `server_main(grid)` returns, with `clients` clients behind the grid.

    The server runs in the calling thread on every engine, and what it raises is raised here. A reply
    is a message with content, or with an error whose reason is one sentence (`client 3 raised ...`).

    Args:
        engine: "local" or "ray".
        server_main: the server; gets a Flower Grid.
        client_app: a ClientApp, or an importable function without arguments that returns one (on Ray
            the better choice: what its module caches then lasts as long as the worker process).
        clients: number of clients (>= 1).
        run_config: what each client finds in `context.run_config`.
        timeout: seconds a client may take for one message; None waits for ever.
        on_reply: called in the calling thread with each reply as it comes.
        workers: of the local engine: processes that run the clients (>= 0), 0: this one, "auto": as many as pay off.
            The models are the same, bit for bit.
        imports: modules that a worker of the local engine imports first, such as those that register something.
            "__main__" keeps the clients in this process.

    Raises:
        SettingsError: the engine is unknown or a number is out of range.
    """
    if engine == "local":
        with (
            quiet_flower(),
            one_torch_thread(),
            heap_set_aside(),
            LocalGrid(client_app, clients, run_config, timeout, on_reply, workers, imports=imports) as grid,
        ):
            return server_main(grid)
    if engine == "ray":
        # Ray and Flower's simulation take seconds to import.
        from fedunlearn.engines.ray import run_on_ray

        with one_torch_thread():
            return run_on_ray(server_main, client_app, clients, run_config, timeout, on_reply)
    raise SettingsError(f"engine {engine!r} is unknown: the engines are {' and '.join(ENGINES)}")
