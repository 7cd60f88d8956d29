"""Cohorts: several messages that one client app answers in one computation, when it offers to.

A client app may have a method `batch(messages, contexts)` that returns a reply for each message, None for one that is
to be answered singly, or None altogether. What it computes is its own affair; here messages are only put together.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flwr.app import ArrayRecord, Context, Message
from flwr.clientapp import ClientApp

from fedunlearn.engines.answering import wrong_reply
from fedunlearn.engines.records import identity
from fedunlearn.engines.torch_threads import use_one_torch_thread
from fedunlearn.errors import SettingsError
from fedunlearn.flower_messages import copy_message, copy_records

Batch = Callable[[Sequence[Message], Sequence[Context]], Sequence[Message | None] | None]

LARGEST = 16
"""Clients that are put together where the run configuration says nothing or "auto"."""

log = logging.getLogger("fedunlearn.clients")


def cohort_size(client_app: ClientApp, run_config: Mapping[str, Any]) -> int:
    """How many messages to put together at most; 1: none.

    Raises:
        SettingsError: `cohort` in the run configuration is neither "auto" nor a number of 1 or more.
    """
    asked = run_config.get("cohort", "auto")
    if asked in ("auto", ""):
        size = LARGEST
    elif isinstance(asked, int) and asked >= 1:
        size = asked
    else:
        raise SettingsError(f"cohort is {asked!r}: give 'auto', or the number of clients to train together, 1 or more")
    return size if batch_of(client_app) is not None else 1


def batch_of(client_app: ClientApp) -> Batch | None:
    """The app's own way to answer several messages at once, if it has one."""
    batch: Batch | None = getattr(client_app, "batch", None)
    return batch


def alike(message: Message) -> tuple[object, ...]:
    """Equal for messages that may be answered together: of one type, around the same arrays."""
    arrays = [(name, identity(record)) for name, record in message.content.items() if isinstance(record, ArrayRecord)]
    return message.metadata.message_type, *arrays


def in_cohorts(messages: Sequence[Message]) -> list[list[int]]:
    """Indices of the messages, neighbours that are alike and for different clients put together."""
    cohorts: list[list[int]] = []
    last: tuple[object, ...] | None = None
    nodes: set[int] = set()
    for index, message in enumerate(messages):
        kind, node = alike(message), message.metadata.dst_node_id
        if kind != last or node in nodes:
            cohorts.append([])
            nodes.clear()
        cohorts[-1].append(index)
        last = kind
        nodes.add(node)
    return cohorts


def answer_together(batch: Batch, messages: Sequence[Message], contexts: Sequence[Context]) -> list[Message | None]:
    """The replies that the app gives at once; None for each message that is still to be answered singly.

    A context's state is what the client left, or unchanged where there is no reply.
    """
    use_one_torch_thread()
    states = [context.state for context in contexts]
    for context, state in zip(contexts, states, strict=True):
        context.state = copy_records(state)
    replies: Sequence[Message | None] | None = None
    try:
        replies = batch([copy_message(message) for message in messages], contexts)
    except KeyboardInterrupt:
        raise
    except BaseException:
        # Whose failure it was shows when each is asked alone.
        log.error("a cohort of %d clients failed and is asked one by one\n%s", len(messages), traceback.format_exc())
    given: list[Message | None] = [None] * len(messages) if replies is None else list(replies)
    if len(given) != len(messages):
        log.error("a cohort of %d clients gave %d replies and is asked one by one", len(messages), len(given))
        given = [None] * len(messages)
    for index, (reply, message) in enumerate(zip(given, messages, strict=True)):
        if reply is None or wrong_reply(reply, message.metadata.message_id) is not None:
            given[index] = None
            contexts[index].state = states[index]
    return given
