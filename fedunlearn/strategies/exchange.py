"""One exchange with some clients: send, resend the base where it is lacking, hand the answers on, count bytes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.app import ArrayRecord, RecordDict
from flwr.serverapp import Grid

from fedunlearn.strategies.content import BASE, payload_bytes
from fedunlearn.strategies.reception import Answer, Metrics, Reception, Sent, Take, nothing_but_finite
from fedunlearn.strategies.roster import Roster

__all__ = ["Answer", "Metrics", "Outcome", "exchange"]


@dataclass(frozen=True)
class Outcome:
    """What came of an exchange.

    Attributes:
        answers: in the order of the clients' ids; their arrays have been used and are not kept.
        dropped: (client, sentence) of whoever failed, did not answer in time or sent what cannot be used.
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
    take: Take = nothing_but_finite,
) -> Outcome:
    """Send each client its content and hand on the answers as they come, in the order of the clients' ids.

    Args:
        contents: client -> what it is sent.
        timeout: seconds for everybody.
        base: sent once, whole, to a client that says it lacks it.
        take: is given each sound answer once, and may refuse it by raising ClientError.
    """
    started = time.monotonic()
    clients = sorted(contents)
    reception = Reception(clients, take, timeout)
    sent = Sent({client: roster.members[client].node for client in clients}, contents.__getitem__, message_type)
    lacking = reception.receive(sent, grid.send_and_receive(sent.messages(), timeout=timeout), base is not None)
    base_bytes = 0
    if lacking and base is not None:
        whole = base
        base_bytes = payload_bytes(RecordDict({BASE: whole}))
        again = Sent(
            {client: roster.members[client].node for client in lacking},
            lambda client: RecordDict({**contents[client], BASE: whole}),
            message_type,
        )
        reception.receive(again, grid.send_and_receive(again.messages(), timeout=timeout))
    down = _weights(contents)
    return Outcome(
        answers=tuple(reception.answers),
        dropped=tuple(reception.dropped),
        bytes={
            client: {
                # A refused attempt weighs nothing that a client which keeps its base would not have had to send.
                "down": 0 if client in reception.lacking else down[client],
                "up": reception.up.get(client, 0),
                "base": base_bytes if client in lacking else 0,
            }
            for client in clients
        },
        seconds=time.monotonic() - started,
    )


def _weights(contents: Mapping[int, RecordDict]) -> dict[int, int]:
    """Client -> bytes of what it is sent; most are sent one and the same."""
    by_content: dict[int, int] = {}
    for content in contents.values():
        if id(content) not in by_content:
            by_content[id(content)] = payload_bytes(content, without=BASE)
    return {client: by_content[id(content)] for client, content in contents.items()}
