"""The local engine: a Flower grid whose clients answer in this process, or in worker processes of its own."""

from __future__ import annotations

import secrets
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import count
from types import TracebackType
from typing import Literal, Protocol

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedunlearn.engines.answering import ClientAppSource, RunConfig, error_reply, load_client_app, settle
from fedunlearn.engines.cohorts import cohort_size
from fedunlearn.engines.flower_compat import ErrorCode, Run, address, ensure_identity, new_run_id
from fedunlearn.engines.inline import InlineClients
from fedunlearn.engines.nodes import FIRST_NODE_ID, Call, Nodes
from fedunlearn.engines.pooled import PooledClients
from fedunlearn.engines.replies import Replies
from fedunlearn.engines.sources import SCRIPT, importable_name
from fedunlearn.engines.switching import SwitchingClients, workers_worth
from fedunlearn.engines.worker_pool import WorkerPool, idle_workers, lent_pool
from fedunlearn.engines.worker_process import in_worker
from fedunlearn.errors import SettingsError

OnReply = Callable[[Message], None]
Workers = Literal["auto"] | int

__all__ = ["FIRST_NODE_ID", "LocalGrid", "OnReply", "Workers"]


class _Clients(Protocol):
    """Who runs the clients."""

    def answers(self, calls: Iterator[Call]) -> Iterator[Message]:
        """One reply a call, in their order."""

    def close(self) -> None:
        """End what was started."""


class LocalGrid(Grid):
    """Executes a ClientApp for every client on this machine; replies come in the order of the messages.

    Works with any Flower strategy: `FedAvg().start(grid=LocalGrid(app, clients=10), initial_arrays=...)`.

    Args:
        client_app: a ClientApp, or a function without arguments that returns one.
        clients: number of clients (>= 1); client i finds partition-id i and num-partitions `clients` in
            `context.node_config`.
        run_config: what each client finds in `context.run_config`. `cohort` in it is the number of clients that an
            app which can is asked to answer at once (1: never; "auto", the default: some).
        timeout: seconds a client may take for one message; None waits for ever. The reply of one that takes longer is
            an error that says so. In this process it is left behind, and until it has really ended all further
            messages to it are answered with an error at once; in a worker it is ended with its process.
        on_reply: called with each reply as it is read.
        workers: processes that run the clients (>= 0), 0: this one. "auto": this one, until the clients have taken as
            long as it takes to start others; then one a core. An app that other processes cannot import stays here.
        pool: worker processes to use; None: those of this process, which are started when they are first needed.
        imports: modules that a worker imports first. "__main__" stands for what no worker can import.

    Raises:
        SettingsError: a number is out of range, client_app gives no ClientApp or cannot be copied into workers, or
            workers are asked for although they cannot import what is needed.
    """

    def __init__(
        self,
        client_app: ClientAppSource,
        clients: int,
        run_config: RunConfig | None = None,
        timeout: float | None = None,
        on_reply: OnReply | None = None,
        workers: Workers = 0,
        pool: WorkerPool | None = None,
        imports: Sequence[str] = (),
    ) -> None:
        if clients < 1:
            raise SettingsError(f"clients is {clients}: a federation needs at least 1 client")
        if timeout is not None and timeout <= 0:
            raise SettingsError(f"timeout is {timeout:g} s: give a number above 0, or None to wait for ever")
        if workers != "auto" and not (isinstance(workers, int) and workers >= 0):
            raise SettingsError(f"workers is {workers!r}: give 'auto', or a number of processes, 0 or more")
        ensure_identity()
        self._timeout = timeout
        self._on_reply = on_reply
        self._run = Run.create_empty(new_run_id())
        self._nodes = Nodes(clients, run_config or {}, self._run.run_id)
        # Ids of messages: drawn once and then counted, for drawing each takes longer than a whole call.
        self._id, self._numbers = secrets.token_hex(12), count(1)
        self._pending: dict[str, Message] = {}
        self._unread: tuple[weakref.ref[Replies], Iterator[Message]] | None = None
        self._lent = ExitStack()
        self._clients = self._start(client_app, workers, pool, imports)

    def __enter__(self) -> LocalGrid:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._unread = None
        self.close()

    def close(self) -> None:
        """Answer the messages whose replies nobody has read, and leave the workers to others."""
        try:
            self._finish_unread()
        finally:
            self._clients.close()
            self._lent.close()

    def set_run(self, run: Run) -> None:
        """Take over the id and details of `run`."""
        self._run = run
        self._nodes.run_id = run.run_id

    @property
    def run(self) -> Run:
        """Run information."""
        return Run(**vars(self._run))

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
        return self._nodes.ids()

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Accept messages; each is executed when its reply is first asked for.

        Raises:
            ValueError: a message is itself a reply, or its time to live is not above 0.
        """
        self._finish_unread()
        message_ids = []
        for message in messages:
            message_id = self._stamped(message).metadata.message_id
            self._pending[message_id] = message
            message_ids.append(message_id)
        return message_ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Execute the named messages and return their replies; ids already pulled or unknown give none."""
        self._finish_unread()
        named = (self._pending.pop(message_id, None) for message_id in message_ids)
        return list(self._answers((message for message in named if message is not None), None))

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Replies:
        """Execute the messages and return one reply each, in their order.

        The replies come as they are read, and are not kept: memory does not grow with their number. Messages whose
        replies have not been read are executed before the grid is used again, or closed.

        Args:
            messages: to any nodes, also several to one node; a generator is read as replies are.
            timeout: seconds for each client (None: no limit but the grid's own). It is counted client by
                client, as if they worked at the same time: one that hangs takes no time from the others.

        Raises:
            ValueError: a message is itself a reply, or its time to live is not above 0.
        """
        self._finish_unread()
        if isinstance(messages, list | tuple):
            for message in messages:
                self._stamped(message)
            stamped: Iterator[Message] = iter(messages)
        else:
            stamped = map(self._stamped, messages)
        source = self._answers(stamped, timeout)
        replies = Replies(source)
        self._unread = weakref.ref(replies), source
        return replies

    def _start(
        self, client_app: ClientAppSource, workers: Workers, pool: WorkerPool | None, imports: Sequence[str]
    ) -> _Clients:
        app = load_client_app(client_app)
        cohort = cohort_size(app, self._nodes.run_config)

        def pooled(size: int) -> PooledClients:
            own = self._lent.enter_context(lent_pool()) if pool is None else pool
            return PooledClients(own, size, client_app, self._nodes, cohort, imports)

        # A worker has no workers of its own: the cores are taken.
        if workers != "auto" and workers > 0 and not in_worker():
            if SCRIPT in imports:
                raise SettingsError(
                    f"workers is {workers}, but this script registers a task, method or the like itself, and worker "
                    "processes do not run it: put that into a module which the script imports, or use workers=0"
                )
            return pooled(workers)
        inline = InlineClients(app, self._nodes, cohort)
        size = workers_worth(self._nodes.clients)
        if workers != "auto" or in_worker() or size < 2 or SCRIPT in imports or importable_name(client_app) is None:
            return inline
        running = idle_workers() if pool is None else len(pool)
        return SwitchingClients(inline, lambda: pooled(size), started=running >= size)

    def _stamped(self, message: Message) -> Message:
        metadata = message.metadata
        if metadata.reply_to_message_id or metadata.ttl <= 0:
            raise ValueError(f"not a message that a server can send: {metadata}")
        address(message, f"{self._id}{next(self._numbers):08x}", self._run.run_id)
        return message

    def _answers(self, messages: Iterator[Message], timeout: float | None) -> Iterator[Message]:
        limit = min((seconds for seconds in (self._timeout, timeout) if seconds is not None), default=None)
        return map(self._settled, self._clients.answers(self._call(message, limit) for message in messages))

    def _call(self, message: Message, limit: float | None) -> Call:
        node = message.metadata.dst_node_id
        return Call(message, node, limit, None if node in self._nodes else self._refusal(message))

    def _settled(self, reply: Message) -> Message:
        settle(reply)
        address(reply, f"{self._id}{next(self._numbers):08x}")
        if self._on_reply is not None:
            self._on_reply(reply)
        return reply

    def _refusal(self, message: Message) -> Message:
        node, last = message.metadata.dst_node_id, FIRST_NODE_ID + self._nodes.clients - 1
        sentence = f"no client has node id {node}: the nodes here are {FIRST_NODE_ID} to {last}"
        return error_reply(message, ErrorCode.NODE_UNAVAILABLE, sentence)

    def _finish_unread(self) -> None:
        """Execute what was sent and not read: kept for whoever still holds the replies, else for its effect only."""
        if self._unread is not None:
            reference, source = self._unread
            self._unread = None
            replies = reference()
            if replies is not None:
                replies.finish()
            else:
                deque(source, maxlen=0)
