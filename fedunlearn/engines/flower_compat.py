"""The only module that imports what Flower does not promise to keep; a new Flower is made to work here."""

from __future__ import annotations

import copy
import secrets

from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.constant import NUM_PARTITIONS_KEY, PARTITION_ID_KEY, SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp import Grid
from flwr.supercore import telemetry
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import InMemoryGrid

from fedunlearn.errors import ClientError

__all__ = [
    "FLOWER_LOGGER_NAME",
    "NUM_PARTITIONS_KEY",
    "PARTITION_ID_KEY",
    "ErrorCode",
    "Run",
    "address",
    "copy_message",
    "copy_records",
    "ensure_identity",
    "new_run_id",
    "node_ids_by_partition",
    "telemetry_switch",
]

FLOWER_LOGGER_NAME = "flwr"


def new_run_id() -> int:
    """A run id as Flower draws it: 63 random bits, so that no two runs share what a client keeps by run."""
    return secrets.randbits(63)


def ensure_identity() -> None:
    """Give this process the identity without which Flower refuses to build a Message; keeps one it has."""
    if TaskIdentity._run_id is None or TaskIdentity._node_id is None or TaskIdentity._task_id is None:
        TaskIdentity.task_id = 1
        TaskIdentity.run_id = new_run_id()
        TaskIdentity.node_id = SUPERLINK_NODE_ID


def address(message: Message, message_id: str, run_id: int | None = None) -> None:
    """Stamp a message in place with its id (and run), as Flower's own grids do."""
    message.metadata.__dict__["_message_id"] = message_id
    if run_id is not None:
        message.metadata.__dict__["_run_id"] = run_id


def copy_records(records: RecordDict) -> RecordDict:
    """New records around the same, never copied, arrays: changing one side does not show on the other."""
    copied = RecordDict()
    for name, record in records.items():
        duplicate = record.copy()
        if isinstance(duplicate, (MetricRecord, ConfigRecord)):
            for key, value in duplicate.items():
                if isinstance(value, list):
                    duplicate[key] = value.copy()  # type: ignore[assignment]
        copied[name] = duplicate
    return copied


def copy_message(message: Message) -> Message:
    """The message with metadata and records of its own; its arrays are shared."""
    copied = copy.copy(message)
    copied.__dict__["_metadata"] = copy.copy(message.metadata)
    if message.has_content():
        copied.content = copy_records(message.content)
    return copied


def node_ids_by_partition(grid: Grid) -> list[int]:
    """Node ids of a running simulation, the node of partition 0 first; grows while nodes register.

    Raises:
        ClientError: the grid is not the one of Flower's simulation.
    """
    if not isinstance(grid, InMemoryGrid):
        raise ClientError(
            f"Flower's simulation handed out a {type(grid).__name__} where an InMemoryGrid was expected: "
            "install a Flower version that this package was tested with (flwr>=1.41,<1.43)"
        )
    # Nodes register in the order of their partitions and the state keeps that order.
    return [node.node_id for node in grid.state.get_node_info()]


def telemetry_switch(value: str | None = None) -> str:
    """Return Flower's telemetry switch ("0", "1"); with a value, set it (its variable is read only once)."""
    before = telemetry.FLWR_TELEMETRY_ENABLED
    if value is not None:
        telemetry.FLWR_TELEMETRY_ENABLED = value
    return before
