"""The grid of Flower's simulation, made to behave as the local one: same order, same sentences."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid

from fedunlearn.engines.answering import error_reply, overdue_sentence, settle
from fedunlearn.engines.flower_compat import ErrorCode, Run, node_ids_by_partition
from fedunlearn.engines.local import OnReply

_POLL_SECONDS = 0.02
_DEATHS = ("ActorDiedError", "ActorUnavailableError", "WorkerCrashedError", "NodeDiedError")


class SimulationGrid(Grid):
    """Wraps the simulation's grid: replies in the order of the messages, errors as one sentence.

    Args:
        grid: the grid of Flower's simulation, with all its nodes registered.
        check: called while replies are awaited; raises when none can come any more.
        on_reply: called with each reply as it comes.
    """

    def __init__(self, grid: Grid, check: Callable[[], None], on_reply: OnReply | None = None) -> None:
        self._grid = grid
        self._check = check
        self._on_reply = on_reply
        self._clients = {node_id: client for client, node_id in enumerate(node_ids_by_partition(grid))}

    def set_run(self, run: Run) -> None:
        """Set the run of the wrapped grid."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """Run information."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message to a node (Flower's older way; `Message(...)` does the same)."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Node ids, in the order of the clients."""
        return list(self._clients)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send messages; ids of those that were accepted."""
        return list(self._grid.push_messages(messages))

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Replies that have come by now."""
        self._check()
        replies = [self._settled(reply) for reply in self._grid.pull_messages(message_ids)]
        if self._on_reply is not None:
            for reply in replies:
                self._on_reply(reply)
        return replies

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Send the messages and return one reply each, in their order.

        Args:
            messages: to any nodes, also several to one node.
            timeout: seconds without any reply after which the silent clients are answered with an error
                (None: no limit). Clients take turns on the workers, so time is not counted from the start.
        """
        sent: list[Message] = []
        replies: dict[str, Message] = {}
        for message in messages:
            sent.append(message)
            if not self.push_messages([message]):
                node_id = message.metadata.dst_node_id
                sentence = f"no client has node id {node_id}: the nodes here are those of get_node_ids()"
                replies[message.metadata.message_id] = self._announced(
                    error_reply(message, ErrorCode.NODE_UNAVAILABLE, sentence)
                )
        waiting = {message.metadata.message_id for message in sent} - replies.keys()
        last_reply = time.monotonic()
        while waiting and (timeout is None or time.monotonic() < last_reply + timeout):
            for reply in self.pull_messages(waiting):
                replies[reply.metadata.reply_to_message_id] = reply
                last_reply = time.monotonic()
            waiting -= replies.keys()
            if waiting:
                time.sleep(_POLL_SECONDS)
        for message in sent:
            if timeout is not None and message.metadata.message_id in waiting:
                sentence = overdue_sentence(self._name(message.metadata.dst_node_id), timeout)
                replies[message.metadata.message_id] = self._announced(
                    error_reply(message, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, sentence)
                )
        return [replies[message.metadata.message_id] for message in sent]

    def _announced(self, reply: Message) -> Message:
        settle(reply)
        if self._on_reply is not None:
            self._on_reply(reply)
        return reply

    def _settled(self, reply: Message) -> Message:
        if reply.has_error() and reply.error.code == ErrorCode.UNKNOWN:
            # Not from our guard: the process went down, and Flower passes Ray's long report on.
            report = reply.error.reason or ""
            name = self._name(reply.metadata.src_node_id)
            died = any(kind in report for kind in _DEATHS)
            what = "died with its worker process" if died else "could not be run: " + _first_line(report)
            reply.error = Error(reply.error.code, f"{name} {what}\n{report}")
        return settle(reply)

    def _name(self, node_id: int) -> str:
        return f"client {self._clients[node_id]}" if node_id in self._clients else f"client on node {node_id}"


def _first_line(report: str) -> str:
    return next((line.strip() for line in report.splitlines() if line.strip()), "no reason was given")
