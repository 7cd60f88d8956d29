"""The clients of a local grid: their nodes, and what each left in its context's state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from flwr.app import Context, Message, RecordDict
from flwr.app.user_config import UserConfig

from fedunlearn.engines.flower_compat import NUM_PARTITIONS_KEY, PARTITION_ID_KEY
from fedunlearn.flower_messages import copy_records

FIRST_NODE_ID = 1000
"""Node id of client 0; client i is node 1000 + i. (Flower keeps 0 and 1 for itself.)"""


def node_config(node: int, clients: int) -> UserConfig:
    """A new node configuration."""
    return {PARTITION_ID_KEY: node - FIRST_NODE_ID, NUM_PARTITIONS_KEY: clients}


class Call(NamedTuple):
    """One message on its way to a client.

    Attributes:
        message: stamped with its id.
        node: whom it is for; asked for again and again, and Flower looks it up anew each time.
        limit: seconds that the client may take; None: any time.
        refusal: the answer of whom no client stands behind; None: a client is to be asked.
    """

    message: Message
    node: int
    limit: float | None
    refusal: Message | None = None


class Nodes:
    """Nodes of a grid's clients.

    Args:
        clients: number of clients.
        run_config: what each client finds in `context.run_config`.
        run_id: of the run.
    """

    def __init__(self, clients: int, run_config: Mapping[str, object], run_id: int) -> None:
        self.clients = clients
        self.run_config: UserConfig = dict(run_config)  # type: ignore[arg-type]
        self.run_id = run_id
        # Kept here, whoever runs the clients: a worker that dies takes no state with it.
        self._states: dict[int, RecordDict] = {}

    def __contains__(self, node: int) -> bool:
        return FIRST_NODE_ID <= node < FIRST_NODE_ID + self.clients

    def ids(self) -> list[int]:
        """Node ids, in the order of the clients."""
        return list(range(FIRST_NODE_ID, FIRST_NODE_ID + self.clients))

    def name(self, node: int) -> str:
        """What a person calls the client."""
        return f"client {node - FIRST_NODE_ID}"

    def context(self, node: int) -> Context:
        """A new context for one call; what the client does to it shows in no other."""
        state = self._states.get(node)
        return Context(
            run_id=self.run_id,
            node_id=node,
            node_config=node_config(node, self.clients),
            state=RecordDict() if state is None else copy_records(state),
            run_config=self.run_config.copy(),
        )

    def state(self, node: int) -> RecordDict | None:
        """What the client left, not to be changed; None: nothing yet."""
        return self._states.get(node)

    def keep(self, node: int, state: RecordDict) -> None:
        """Keep what the client left."""
        if state or node in self._states:
            self._states[node] = state
