"""How many samples each client has for either term of a joint round, and the mean in which its work weighs by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fedunlearn.errors import ClientError
from fedunlearn.strategies.aggregation import Average, RunningAverage
from fedunlearn.strategies.by_role import insist_on_target
from fedunlearn.strategies.method import ClientReply, Down, Phase, Reply, State, Work
from fedunlearn.strategies.nabla_tau_terms import Terms

Combine = Callable[[State, Sequence[ClientReply]], State]


def count_phases(forgotten: str, retained: str) -> list[Phase]:
    """Two queries, after which both roles' numbers of samples are left under these names."""
    return [
        Phase("query.count", "target", lambda state: Down(), _say_forgotten, keep_counts(forgotten)),
        Phase("query.count", "remaining", lambda state: Down(), say_retained, keep_counts(retained)),
    ]


def _say_forgotten(work: Work) -> Reply:
    return Reply({}, {"num-examples": len(work.forget)})


def say_retained(work: Work) -> Reply:
    """How many retained samples the client has."""
    return Reply({}, {"num-examples": len(work.retain)})


def keep_counts(name: str) -> Combine:
    """What leaves each client's number of samples in the state, under `name`."""

    def combine(state: State, replies: Sequence[ClientReply]) -> State:
        counted = np.array([(reply.client, reply.metrics["num-examples"]) for reply in replies], np.float64)
        return replace(state, arrays={**state.arrays, name: counted})

    return combine


def counts(state: State, name: str) -> dict[int, float]:
    """Client -> samples, as they were left under `name`."""
    return {int(client): float(count) for client, count in state.arrays[name]}


def totals(state: State, *names: str) -> tuple[float, ...]:
    """The samples of all clients, for each of the names. Raises ClientError where there are none of one kind."""
    found = tuple(sum(counts(state, name).values()) for name in names)
    if not min(found) > 0:
        raise ClientError("clients say that they have nothing to forget, or nothing to keep; expected samples of both.")
    return found


@dataclass(frozen=True)
class AverageByTerms(Average):
    """The mean of a joint round in which each client weighs what its two terms do; see `Terms`.

    Raises TargetGone where no target answered: then nothing would be forgotten.

    Attributes:
        terms: how the two are weighed in this round.
        forgotten: the name under which the targets' counts were left.
        retained: the same of who keeps samples.
    """

    terms: Callable[[State], Terms] = lambda state: Terms(0.0, 1.0, 1.0)
    forgotten: str = ""
    retained: str = ""

    def begin(self, state: State) -> RunningAverage:
        """The mean before the first reply."""
        return _Weighing(state, self)


class _Weighing(RunningAverage):
    def __init__(self, state: State, how: AverageByTerms) -> None:
        super().__init__(state, how.finish)
        self._terms = how.terms(state)
        self._forgotten, self._retained = counts(state, how.forgotten), counts(state, how.retained)
        self._target_answered = False

    def add(self, reply: ClientReply) -> None:
        """Add one reply. Raises ClientError where its sender never said how many samples it has."""
        sender = f"client {reply.client}"
        forgotten, retained = self._forgotten.get(reply.client, 0.0), self._retained.get(reply.client, 0.0)
        if not forgotten + retained:
            raise ClientError(f"{sender} did not say how many samples it has, so that its training has no weight.")
        self._mean.add(reply.arrays, self._terms.weight(forgotten, retained), sender)
        self._target_answered = self._target_answered or forgotten > 0

    def result(self) -> State:
        """The state after the round."""
        insist_on_target(self._target_answered)
        return super().result()
