"""The only module that imports what Flower does not promise to keep; a new Flower is made to work here."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Error, Message, Metadata, MetricRecord, RecordDict
from flwr.common.constant import NUM_PARTITIONS_KEY, PARTITION_ID_KEY, SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp import Grid
from flwr.supercore import telemetry
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedunlearn.errors import ClientError

__all__ = [
    "FLOWER_LOGGER_NAME",
    "NUM_PARTITIONS_KEY",
    "PARTITION_ID_KEY",
    "ErrorCode",
    "Run",
    "address",
    "ensure_identity",
    "fill",
    "message_of",
    "metadata_values",
    "new_run_id",
    "node_ids_by_partition",
    "reply_metadata",
    "telemetry_switch",
]

FLOWER_LOGGER_NAME = "flwr"

_METADATA = (
    "_run_id",
    "_message_id",
    "_src_node_id",
    "_dst_node_id",
    "_src_task_id",
    "_dst_task_id",
    "_reply_to_message_id",
    "_group_id",
    "_created_at",
    "_ttl",
    "_message_type",
    "_delivered_at",
)

TypedRecord = TypeVar("TypedRecord", ArrayRecord, ConfigRecord, MetricRecord, RecordDict)


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


def metadata_values(message: Message) -> list[str | int | float | None]:
    """A message's metadata as a list of plain values; `message_of` makes a message of it again."""
    facts = message.__dict__["_metadata"].__dict__
    return [facts.get(name) for name in _METADATA]


def message_of(metadata: Sequence[Any], content: RecordDict | None = None, error: Error | None = None) -> Message:
    """A message of the values of its metadata, and its content or error."""
    message, made = Message.__new__(Message), Metadata.__new__(Metadata)
    made.__dict__.update(zip(_METADATA, metadata, strict=True))
    message.__dict__.update(_metadata=made, _content=content, _error=error)
    return message


def reply_metadata(
    message: Sequence[str | int | float | None], created_at: float, ttl: float
) -> list[str | int | float | None]:
    """Metadata of a reply as Flower makes it, from that of the message that it answers."""
    run_id, message_id, source, destination, source_task, destination_task, _, group_id, _, _, kind, _ = message
    tasks = (destination_task, source_task)
    return [run_id, "", destination, source, *tasks, message_id, group_id, created_at, ttl, kind, ""]


def fill(record: TypedRecord, values: Mapping[str, Any]) -> TypedRecord:
    """Put values that an equal record held into a new one, past Flower's check of every item."""
    record.__dict__["_data"].update(values)
    return record


def node_ids_by_partition(grid: Grid) -> list[int]:
    """Node ids of a running simulation, the node of partition 0 first; grows while nodes register.

    Raises:
        ClientError: the grid is not the one of Flower's simulation.
    """
    # Imports a database and a web framework: a second that no other engine needs.
    from flwr.superlink.grid import InMemoryGrid

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
