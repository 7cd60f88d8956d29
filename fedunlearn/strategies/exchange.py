"""One exchange with some clients: send, resend the base where it is lacking, drop what is broken, count bytes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedunlearn.strategies.content import ARRAYS, BASE, FLAGS, METRICS, numpy_arrays, payload_bytes
from fedunlearn.strategies.roster import Roster

Metrics = dict[str, int | float | list[int] | list[float]]


@dataclass(frozen=True)
class Answer:
    """One client's sound answer."""

    client: int
    arrays: Mapping[str, np.ndarray]
    metrics: Metrics
    flags: Mapping[str, bool]
    message: Message


@dataclass(frozen=True)
class Outcome:
    """What came of an exchange.

    Attributes:
        answers: in the order of the clients' ids.
        dropped: (client, sentence) of whoever failed, did not answer in time or sent numbers that are not finite.
        bytes: client -> {"down", "up", "base"}; "base" is what sending base models added, not part of "down".
        seconds: wall time.
    """

    answers: tuple[Answer, ...]
    dropped: tuple[tuple[int, str], ...]
    bytes: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    seconds: float = 0.0


def exchange(
    grid: Grid,
    roster: Roster,
    message_type: str,
    contents: Mapping[int, RecordDict],
    timeout: float,
    base: ArrayRecord | None = None,
) -> Outcome:
    """Send each client its content and wait for the answers.

    Args:
        contents: client -> what it is sent.
        timeout: seconds for everybody.
        base: sent once, whole, to a client that says it lacks it.
    """
    started = time.monotonic()
    ledger: dict[int, dict[str, int]] = {c: {"down": 0, "up": 0, "base": 0} for c in sorted(contents)}
    answers, dropped, lacking = _send(grid, roster, message_type, contents, timeout, ledger)
    if lacking and base is not None:
        again = {}
        for client in lacking:
            again[client] = RecordDict({**contents[client], BASE: base})
            ledger[client]["base"] += payload_bytes(RecordDict({BASE: base}))
        more, more_dropped, still = _send(grid, roster, message_type, again, timeout, ledger)
        answers, dropped = answers + more, dropped + more_dropped
        lacking = still
    dropped += [(client, f"client {client} lacks the base model even after it was sent.") for client in lacking]
    return Outcome(
        answers=tuple(sorted(answers, key=lambda answer: answer.client)),
        dropped=tuple(sorted(dropped)),
        bytes=ledger,
        seconds=time.monotonic() - started,
    )


def _send(
    grid: Grid,
    roster: Roster,
    message_type: str,
    contents: Mapping[int, RecordDict],
    timeout: float,
    ledger: Mapping[int, dict[str, int]],
) -> tuple[list[Answer], list[tuple[int, str]], list[int]]:
    """Answers, (client, sentence) of those who failed, and clients that lack the base."""
    messages = {c: Message(contents[c], roster.members[c].node, message_type) for c in sorted(contents)}
    for client, content in contents.items():
        ledger[client]["down"] += payload_bytes(content, without=BASE)
    replies = grid.send_and_receive(list(messages.values()), timeout=timeout)
    answers, dropped, up = judge(messages, replies, timeout)
    for client, weight in up.items():
        ledger[client]["up"] += weight
    lacking = [answer.client for answer in answers if answer.flags.get("needs-base")]
    for client in lacking:
        # The refused attempt weighs nothing that a client which keeps its base would not have had to send.
        ledger[client]["down"] = ledger[client]["up"] = 0
    return [answer for answer in answers if answer.client not in lacking], dropped, lacking


def judge(
    sent: Mapping[int, Message], replies: Iterable[Message], timeout: float
) -> tuple[list[Answer], list[tuple[int, str]], dict[int, int]]:
    """What came back.

    Args:
        sent: client -> the message that it was sent.
        timeout: seconds that were waited, for the sentence.

    Returns:
        The sound answers, in the order of the clients' ids; (client, sentence) of whoever failed, said nothing or
        sent numbers that are not finite; and client -> bytes of its answer.
    """
    # A client is found by its message: a node that vanished answers under another id.
    of_message = {message.metadata.message_id: client for client, message in sent.items()}
    of_node = {message.metadata.dst_node_id: client for client, message in sent.items()}
    answers, dropped, up, silent = [], [], {}, set(sent)
    for reply in replies:
        metadata = reply.metadata
        client = of_message.get(metadata.reply_to_message_id, of_node.get(metadata.src_node_id))
        if client is None:
            continue
        silent.discard(client)
        if reply.has_error():
            dropped.append((client, str(reply.error.reason).partition("\n")[0]))
            continue
        answer = _read_answer(client, reply)
        up[client] = payload_bytes(reply.content, without=FLAGS)
        wrong = _not_finite(answer)
        if wrong is None:
            answers.append(answer)
        else:
            dropped.append((client, f"client {client} sent {wrong}, which holds a number that is not finite."))
    dropped += [(client, f"client {client} did not answer within {timeout:g} s.") for client in silent]
    return sorted(answers, key=lambda answer: answer.client), sorted(dropped), up


def _read_answer(client: int, reply: Message) -> Answer:
    """A reply with content as arrays, metrics and flags."""
    content = reply.content
    flags = content.config_records.get(FLAGS, ConfigRecord())
    return Answer(
        client=client,
        arrays=numpy_arrays(content.array_records[ARRAYS]) if ARRAYS in content.array_records else {},
        metrics=dict(content.metric_records[METRICS]) if METRICS in content.metric_records else {},
        flags={name: bool(value) for name, value in flags.items()},
        message=reply,
    )


def _not_finite(answer: Answer) -> str | None:
    """What in an answer holds a number that is not finite; None when all is well."""
    for name, array in answer.arrays.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            return f"an update of {name!r}"
    for name, value in answer.metrics.items():
        if not np.all(np.isfinite(value)):
            return f"the metric {name!r}"
    return None
