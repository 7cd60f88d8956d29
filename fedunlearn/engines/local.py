"""The local engine: a Flower grid whose clients answer in this process, one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from uuid import uuid4

from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid

from fedunlearn.engines.answering import (
    ClientAppSource,
    RunConfig,
    answer_within,
    client_name,
    error_reply,
    load_client_app,
    overdue_sentence,
    settle,
)
from fedunlearn.engines.flower_compat import (
    NUM_PARTITIONS_KEY,
    PARTITION_ID_KEY,
    ErrorCode,
    Run,
    address,
    ensure_identity,
    new_run_id,
)
from fedunlearn.engines.worker_thread import Overdue, WorkerThread
from fedunlearn.errors import SettingsError

OnReply = Callable[[Message], None]

FIRST_NODE_ID = 1000
"""Node id of client 0; client i is node 1000 + i. (Flower keeps 0 and 1 for itself.)"""


class LocalGrid(Grid):
    """Executes a ClientApp for every client in this process; replies come in the order of the messages.

    Works with any Flower strategy: `FedAvg().start(grid=LocalGrid(app, clients=10), initial_arrays=...)`.

    Args:
        client_app: a ClientApp, or a function without arguments that returns one.
        clients: number of clients (>= 1); client i finds partition-id i and num-partitions `clients` in
            `context.node_config`.
        run_config: what each client finds in `context.run_config`.
        timeout: seconds a client may take for one message; None waits for ever. A client that takes
            longer is left behind: the reply is an error that says so, and until it has really ended all
            further messages to it are answered with an error at once.
        on_reply: called with each reply as it comes.

    Raises:
        SettingsError: a number is out of range, or client_app gives no ClientApp.
    """

    def __init__(
        self,
        client_app: ClientAppSource,
        clients: int,
        run_config: RunConfig | None = None,
        timeout: float | None = None,
        on_reply: OnReply | None = None,
    ) -> None:
        if clients < 1:
            raise SettingsError(f"clients is {clients}: a federation needs at least 1 client")
        if timeout is not None and timeout <= 0:
            raise SettingsError(f"timeout is {timeout:g} s: give a number above 0, or None to wait for ever")
        ensure_identity()
        self._client_app = load_client_app(client_app)
        self._run_config = dict(run_config or {})
        self._timeout = timeout
        self._on_reply = on_reply
        self._run = Run.create_empty(new_run_id())
        self._node_configs = {
            FIRST_NODE_ID + client: {PARTITION_ID_KEY: client, NUM_PARTITIONS_KEY: clients} for client in range(clients)
        }
        self._states: dict[int, RecordDict] = {}
        self._pending: dict[str, Message] = {}
        self._worker = WorkerThread("fedunlearn-clients")
        self._left_behind: dict[int, threading.Thread] = {}

    def __enter__(self) -> LocalGrid:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the thread in which clients with a timeout run."""
        self._worker.close()

    def set_run(self, run: Run) -> None:
        """Take over the id and details of `run`."""
        self._run = run

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
        return list(self._node_configs)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Accept messages; each is executed when its reply is first asked for.

        Raises:
            ValueError: a message is itself a reply, or its time to live is not above 0.
        """
        message_ids = []
        for message in messages:
            metadata = message.metadata
            if metadata.reply_to_message_id or metadata.ttl <= 0:
                raise ValueError(f"not a message that a server can send: {metadata}")
            message_id = str(uuid4())
            address(message, message_id, self._run.run_id)
            self._pending[message_id] = message
            message_ids.append(message_id)
        return message_ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Execute the named messages and return their replies; ids already pulled or unknown give none."""
        return self._execute(message_ids, timeout=None)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Execute the messages and return one reply each, in their order.

        Args:
            messages: to any nodes, also several to one node.
            timeout: seconds for each client (None: no limit but the grid's own). It is counted client by
                client, as if they worked at the same time: one that hangs takes no time from the others.
        """
        return self._execute(self.push_messages(messages), timeout)

    def _execute(self, message_ids: Iterable[str], timeout: float | None) -> list[Message]:
        limit = min((seconds for seconds in (self._timeout, timeout) if seconds is not None), default=None)
        replies = []
        for message_id in message_ids:
            message = self._pending.pop(message_id, None)
            if message is None:
                continue
            reply = settle(self._reply(message, limit))
            address(reply, str(uuid4()))
            replies.append(reply)
            if self._on_reply is not None:
                self._on_reply(reply)
        return replies

    def _reply(self, message: Message, limit: float | None) -> Message:
        node_id = message.metadata.dst_node_id
        if node_id not in self._node_configs:
            last = FIRST_NODE_ID + len(self._node_configs) - 1
            sentence = f"no client has node id {node_id}: the nodes here are {FIRST_NODE_ID} to {last}"
            return error_reply(message, ErrorCode.NODE_UNAVAILABLE, sentence)
        context = Context(
            run_id=self._run.run_id,
            node_id=node_id,
            node_config=dict(self._node_configs[node_id]),
            state=self._states.get(node_id, RecordDict()),
            run_config=dict(self._run_config),
        )
        name = client_name(context)
        if self._is_left_behind(node_id):
            sentence = f"{name} is still busy with an earlier message that it did not answer in time"
            return error_reply(message, ErrorCode.NODE_UNAVAILABLE, sentence)
        try:
            reply = answer_within(self._client_app, message, context, limit, self._worker)
        except Overdue as overdue:
            self._left_behind[node_id] = overdue.thread
            return error_reply(message, ErrorCode.CLIENT_APP_CRASHED, overdue_sentence(name, overdue.timeout))
        self._states[node_id] = context.state
        return reply

    def _is_left_behind(self, node_id: int) -> bool:
        thread = self._left_behind.get(node_id)
        if thread is not None and not thread.is_alive():
            del self._left_behind[node_id]
            return False
        return thread is not None
