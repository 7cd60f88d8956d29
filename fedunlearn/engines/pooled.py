"""Clients in the worker processes of a pool."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from flwr.app import Message

from fedunlearn.engines.answering import ClientAppSource
from fedunlearn.engines.desks import Desks
from fedunlearn.engines.exchange import Exchange
from fedunlearn.engines.nodes import Call, Nodes
from fedunlearn.engines.publishing import Publisher
from fedunlearn.engines.scheduling import Lengths
from fedunlearn.engines.sources import described
from fedunlearn.engines.worker_pool import WorkerPool


class PooledClients:
    """Answers calls in worker processes.

    The global model is written once into memory that all workers map; updates come back the same way. A client's
    state goes with each message and comes back with the reply, so that a worker which dies takes no state with it.

    Args:
        pool: the workers; lent to these clients until they are closed.
        size: workers to use (>= 1).
        source: the app.
        nodes: the clients.
        cohort: calls that are put together where the app can answer several at once; 1: none.
        imports: modules that a worker imports before it builds the app.

    Raises:
        SettingsError: the app cannot be copied into another process.
    """

    def __init__(
        self,
        pool: WorkerPool,
        size: int,
        source: ClientAppSource,
        nodes: Nodes,
        cohort: int = 1,
        imports: Sequence[str] = (),
    ) -> None:
        app = {
            "kind": "app",
            "source": described(source),
            "imports": list(imports),
            "run_config": nodes.run_config,
            "clients": nodes.clients,
        }
        self.desks = Desks(pool, size, app)
        # What one exchange learns of the clients serves the next.
        self._begin = partial(Exchange, self.desks, nodes, Publisher(pool.writer), Lengths(), {}, cohort)
        self._exchange: Exchange | None = None

    @property
    def ready(self) -> bool:
        """Whether every worker has the app. Raises FedunlearnError when it cannot be had there."""
        return self.desks.ready

    def answers(self, calls: Iterator[Call]) -> Iterator[Message]:
        """One reply a call, in their order.

        Raises:
            FedunlearnError: the app cannot be had in a worker, or workers do not start.
        """
        self._exchange = exchange = self._begin(calls)
        try:
            yield from exchange.replies()
        finally:
            exchange.leave()

    def close(self) -> None:
        """Leave the workers to the next federation."""
        if self._exchange is not None:
            self._exchange.leave()
