"""One worker's desk: what a federation has told the worker, and what the worker has to do for it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ArrayRecord, Message, RecordDict

from fedunlearn.engines.flower_compat import metadata_values
from fedunlearn.engines.nodes import Call, Nodes
from fedunlearn.engines.publishing import Held, Publication, Publisher
from fedunlearn.engines.worker_process import WorkerProcess


@dataclass(slots=True)
class Case:
    """A call until its reply is delivered.

    Attributes:
        number: its place in the exchange.
        call: what is asked of whom.
        held: what the publisher was told.
        alone: whether it is to be answered singly, not in a cohort.
        deaths: workers that died when it was their turn to answer it.
        begun: whether the worker that has it now said that it began; only asked of one that another died with.
        state: what was sent of the client's state.
        reply: the reply, once it is there.
    """

    number: int
    call: Call
    held: Held
    alone: bool = False
    deaths: int = 0
    begun: bool = False
    state: RecordDict | None = None
    reply: Message | None = None


@dataclass(eq=False)
class Desk:
    """What one worker was given by one federation.

    Attributes:
        place: its place in the pool.
        worker: the process.
        opened: whether the worker has the app.
        cases: given to the worker and not answered, the one it is at first.
        together: whether the worker may answer them as a cohort.
        seconds: expected to take; None: it is not known.
        since: when it began with the first of them, at the latest.
        started: when it was given the app.
    """

    place: int
    worker: WorkerProcess
    opened: bool = False
    cases: deque[Case] = field(default_factory=deque)
    together: bool = False
    seconds: dict[int, float | None] = field(default_factory=dict)
    since: float = 0.0
    started: float = field(default_factory=time.monotonic)
    _known: set[int] = field(default_factory=set)
    _forget: list[int] = field(default_factory=list)

    def open(self, frame: dict[str, Any]) -> None:
        """Give the worker the app. Raises ChannelClosed when it is gone."""
        self.worker.post.send(frame)

    def give(
        self,
        cases: Sequence[Case],
        expected: Iterable[float | None],
        nodes: Nodes,
        publisher: Publisher,
        together: bool,
    ) -> None:
        """Send cases to the worker. Raises ChannelClosed when it is gone; the cases are the desk's all the same."""
        if not self.cases:
            self.since = time.monotonic()
        self.cases.extend(cases)
        self.seconds.update(zip([case.number for case in cases], expected, strict=True))
        self.together = together
        post = self.worker.post
        parcel = post.parcel()
        used: dict[int, Publication] = {}
        common = metadata_values(cases[0].call.message)
        messages = []

        def known(record: ArrayRecord) -> list[Any] | None:
            publication = publisher.of(record)
            if publication is None:
                return None
            used[publication.number] = publication
            return ["published", publication.number]

        for case in cases:
            case.begun = False
            message, node = case.call.message, case.call.node
            case.state = nodes.state(node)
            own = [[i, value] for i, value in enumerate(metadata_values(message)) if value != common[i]]
            content = parcel.add(message.content, known)
            messages.append([case.number, node, own, content, parcel.add(case.state) if case.state else []])
        new = [publication for number, publication in used.items() if number not in self._known]
        self._known.update(used)
        frame: dict[str, Any] = {
            "kind": "messages",
            "run_id": nodes.run_id,
            "metadata": common,
            "messages": messages,
            "together": together,
            "uses": list(used),
            "announce": [case.number for case in cases if case.deaths],
            "publish": [publication.notice for publication in new],
            "forget": self._forget,
        }
        self._forget = []
        post.send(frame, parcel, [publication.block for publication in new if publication.block is not None])

    def forget(self, numbers: Iterable[int]) -> None:
        """These publications are not used any more: the worker is told with the next frame."""
        gone = self._known.intersection(numbers)
        self._known -= gone
        self._forget += gone

    def tidy(self) -> None:
        """Tell the worker now what it may forget. Raises ChannelClosed when it is gone."""
        if self._forget:
            self.worker.post.send({"kind": "tidy", "forget": self._forget})
            self._forget = []

    @property
    def load(self) -> float | None:
        """Seconds of work that the worker has; None when it has some and nothing is known of it."""
        total = 0.0
        for seconds in self.seconds.values():
            if seconds is None:
                return None
            total += seconds
        return total

    @property
    def deadline(self) -> float | None:
        """When the worker has had all the time there is for the case that it is at; None: never."""
        if not (self.opened and self.cases):
            return None
        # Of a cohort nobody knows whom it is at.
        at = list(self.cases) if self.together else [self.cases[0]]
        limits = [case.call.limit for case in at]
        return None if None in limits else self.since + sum(limit for limit in limits if limit is not None)

    def began(self, number: int) -> None:
        """The worker has begun with a case."""
        for case in self.cases:
            case.begun = case.begun or case.number == number

    def answered(self, number: int) -> Case:
        """Take the case off the desk."""
        case = next(case for case in self.cases if case.number == number)
        self.cases.remove(case)
        del self.seconds[number]
        self.since = time.monotonic()
        return case

    def cleared(self) -> list[Case]:
        """Take all cases off the desk."""
        cases = list(self.cases)
        self.cases.clear()
        self.seconds.clear()
        return cases
