"""Copies of Flower's messages and records, past its checks of every part: what is copied has passed them already.

Arrays are never copied, and nothing else is shared: a change to the one side does not show on the other.
"""

from __future__ import annotations

import time
from typing import TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Message, Metadata, MetricRecord, RecordDict

Record = TypeVar("Record", ArrayRecord, ConfigRecord, MetricRecord)


def copy_records(records: RecordDict) -> RecordDict:
    """New records around the same arrays."""
    kind = records.__class__
    copied = kind.__new__(kind)
    # Given whole, an object's parts need not be put in one by one.
    parts = copied.__dict__ = records.__dict__.copy()
    parts["_data"] = {name: _copy_record(record) for name, record in parts["_data"].items()}
    return copied


def copy_message(message: Message) -> Message:
    """The message with metadata and records of its own."""
    parts = message.__dict__
    content = parts["_content"]
    return _message(
        parts["_metadata"].__dict__.copy(), None if content is None else copy_records(content), parts["_error"]
    )


def envelope(message: Message) -> Message:
    """The message without content, with metadata of its own: what a reply needs to answer it."""
    return _message(message.__dict__["_metadata"].__dict__.copy(), None, None)


def readdressed(message: Message, content: RecordDict, node: int) -> Message:
    """What `message` was before a grid took it, but made now, for another node and with a content of its own."""
    facts = message.__dict__["_metadata"].__dict__.copy()
    facts.update(_message_id="", _dst_node_id=node, _created_at=time.time())
    return _message(facts, content, None)


def _copy_record(record: Record) -> Record:
    kind = record.__class__
    copied = kind.__new__(kind)
    parts = copied.__dict__ = record.__dict__.copy()
    values = parts["_data"] = parts["_data"].copy()
    if kind is not ArrayRecord:
        for name, value in values.items():
            if isinstance(value, list):
                values[name] = value.copy()
    return copied


def _message(metadata: dict[str, object], content: RecordDict | None, error: object) -> Message:
    made, facts = Message.__new__(Message), Metadata.__new__(Metadata)
    facts.__dict__ = metadata
    made.__dict__ = {"_metadata": facts, "_content": content, "_error": error}
    return made
