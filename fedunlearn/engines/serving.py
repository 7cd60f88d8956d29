"""Clients in a worker process: what comes in as frames is answered by the app, and goes out as frames."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedunlearn.engines.answering import answer, forget_client_apps, load_client_app
from fedunlearn.engines.cohorts import answer_together, batch_of, in_cohorts
from fedunlearn.engines.flower_compat import ensure_identity, message_of, metadata_values, reply_metadata
from fedunlearn.engines.jobs import import_modules, sentence_of
from fedunlearn.engines.nodes import node_config
from fedunlearn.engines.post import Post
from fedunlearn.engines.records import Identity, Layout, identity, unpacked
from fedunlearn.engines.sources import rebuilt

Asked = tuple[int, Message, Context]
"""A message with its number in the exchange, and its client's context."""
Answered = tuple[Message, bool, float]
"""A reply, whether the context's state is what the client left, and the seconds that the client took."""


class ClientServer:
    """Answers the frames of a `PooledClients`.

    Args:
        post: connects with the parent.
    """

    def __init__(self, post: Post) -> None:
        self._post = post
        self._app: ClientApp | None = None
        self._run_config: dict[str, Any] = {}
        self._clients = 0
        self._published: dict[int, ArrayRecord] = {}

    def handle(self, frame: dict[str, Any], memory: np.ndarray | None) -> None:
        """Do what a frame says. Raises ChannelClosed when the parent is gone."""
        for number in frame.get("forget", ()):
            self._published.pop(number, None)
        for number, entries, block in frame.get("publish", ()):
            bytes_of_it = None if block is None else self._post.memory(block)
            self._published[number] = Layout.read(entries).record(bytes_of_it, 0)
        if frame["kind"] == "app":
            self._open(frame)
        elif frame["kind"] == "messages":
            self._answer(frame, memory)

    def _open(self, frame: dict[str, Any]) -> None:
        self._published.clear()
        self._run_config = frame["run_config"]
        self._clients = frame["clients"]
        ensure_identity()
        try:
            if import_modules(frame["imports"]):
                # What they registered may change what a factory makes.
                forget_client_apps()
            self._app = load_client_app(rebuilt(frame["source"]))
            self._post.send({"kind": "opened"})
        except Exception as error:
            details = traceback.format_exc()
            self._post.send({"kind": "refused", "sentence": sentence_of(error), "details": details})

    def _answer(self, frame: dict[str, Any], memory: np.ndarray | None) -> None:
        asked = [self._asked(frame, plain, memory) for plain in frame["messages"]]
        published = {identity(self._published[number]): ["published", number] for number in frame["uses"]}
        # What the client leaves of its state as it was need not be sent back.
        states = [_identities(context.state) for _, _, context in asked]
        sent = [metadata_values(message) for _, message, _ in asked]
        answers = self._answers(asked, frame["together"], frame["announce"])
        for (number, _, context), metadata, known in zip(asked, sent, states, strict=True):
            known.update(published)
            self._send(number, metadata, *next(answers), context.state, known)

    def _asked(self, frame: dict[str, Any], plain: list[Any], memory: np.ndarray | None) -> Asked:
        number, node, own, content, state = plain
        metadata = frame["metadata"].copy()
        for index, value in own:
            metadata[index] = value
        layouts = self._post.layouts
        context = Context(
            run_id=frame["run_id"],
            node_id=node,
            node_config=node_config(node, self._clients),
            state=unpacked(state, layouts, memory, self._known),
            run_config=self._run_config.copy(),
        )
        return number, message_of(metadata, unpacked(content, layouts, memory, self._known)), context

    def _known(self, _: str, number: int) -> ArrayRecord:
        return self._published[number]

    def _answers(self, asked: list[Asked], together: bool, announce: list[int]) -> Iterator[Answered]:
        assert self._app is not None
        batch = batch_of(self._app) if together else None
        cohorts = (
            in_cohorts([message for _, message, _ in asked]) if batch is not None else [[i] for i in range(len(asked))]
        )
        for cohort in cohorts:
            started = time.perf_counter()
            given: list[Message | None] = [None] * len(cohort)
            if batch is not None and len(cohort) > 1:
                given = answer_together(batch, [asked[i][1] for i in cohort], [asked[i][2] for i in cohort])
            share = (time.perf_counter() - started) / len(cohort)
            for index, reply in zip(cohort, given, strict=True):
                if reply is not None:
                    yield reply, True, share
                    continue
                if asked[index][0] in announce:
                    self._post.send({"kind": "began", "number": asked[index][0]})
                started = time.perf_counter()
                reply, sound = answer(self._app, asked[index][1], asked[index][2])
                yield reply, sound, time.perf_counter() - started

    def _send(
        self,
        number: int,
        asked: list[Any],
        reply: Message,
        sound: bool,
        seconds: float,
        state: RecordDict,
        known: dict[Identity, list[Any]],
    ) -> None:
        parcel = self._post.parcel()
        frame: dict[str, Any] = {"kind": "reply", "number": number, "seconds": seconds}
        metadata = metadata_values(reply)
        times = reply.metadata.created_at, reply.metadata.ttl
        if metadata == reply_metadata(asked, *times):
            frame["times"] = times
        else:
            frame["metadata"] = metadata
        if reply.has_error():
            frame["error"] = [reply.error.code, reply.error.reason]
        else:
            frame["content"] = parcel.add(reply.content, lambda record: known.get(identity(record)))
        if sound:
            frame["state"] = parcel.add(state, lambda record: known.get(identity(record)))
        self._post.send(frame, parcel)


def _identities(state: RecordDict) -> dict[Identity, list[Any]]:
    return {identity(record): ["state", name] for name, record in state.items() if isinstance(record, ArrayRecord)}
