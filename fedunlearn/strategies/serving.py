"""Serving a deletion request: run a method's phases one after the other, record each, resume after a crash."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from flwr.app import ConfigRecord, RecordDict
from flwr.serverapp import Grid

from fedunlearn.announcement import Scope
from fedunlearn.channels.packing import digest_state
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import ClientError, RequestError
from fedunlearn.randomness import derive_seed
from fedunlearn.strategies.aggregation import Average, weight_of
from fedunlearn.strategies.content import ADAPTERS, ARRAYS, CONFIG, EXTRA, MASK, PLAN, array_record, state_record
from fedunlearn.strategies.exchange import Outcome, exchange
from fedunlearn.strategies.history import History
from fedunlearn.strategies.method import ClientReply, Method, Need, Phase, State, checked_phases, training_hook
from fedunlearn.strategies.reception import Answer, nothing_but_finite
from fedunlearn.strategies.roster import Roster
from fedunlearn.tasks.base import LogitsTask, Task
from fedunlearn.tasks.encoding import EncodingTask, TargetedTask


class TargetGone(ClientError):
    """No target answered a phase that only targets can compute."""


@dataclass(frozen=True)
class Job:
    """One or several requests that are served together.

    Attributes:
        requests: their ids.
        targets: clients that hold part of the forget set.
        scopes: what kinds of requests they are.
        classes: that leave everywhere.
    """

    requests: tuple[str, ...]
    targets: tuple[int, ...]
    scopes: frozenset[Scope]
    classes: tuple[int, ...] = ()


def classes_gone(asked: Iterable[tuple[str, Sequence[int] | None]]) -> tuple[int, ...]:
    """The classes that leave everywhere, of requests' scopes and classes."""
    return tuple(sorted({one for scope, classes in asked if scope == "class-everywhere" for one in classes or ()}))


@dataclass(frozen=True)
class PhaseReport:
    """What a recorder is told of a finished phase."""

    number: int
    phase: Phase
    outcome: Outcome
    metrics: dict[str, Any] = field(default_factory=dict)


class Recorder(Protocol):
    """Keeps what has been done, so that a killed job goes on from its last finished phase."""

    def resume(self, state: State) -> tuple[int, State]:
        """Number of phases that are already finished, and the state after them (`state` when none is)."""
        ...

    def record(self, before: State, after: State, report: PhaseReport) -> None:
        """One phase is finished."""
        ...


class ForgetfulRecorder:
    """Keeps nothing: a job that is killed starts again."""

    def resume(self, state: State) -> tuple[int, State]:
        """Nothing is finished."""
        return 0, state

    def record(self, before: State, after: State, report: PhaseReport) -> None:
        """Nothing is kept."""


Observe = Callable[[Phase, State], dict[str, Any]]


def serve(
    grid: Grid,
    roster: Roster,
    method: Method,
    state: State,
    job: Job,
    recorder: Recorder,
    timeout: float,
    fraction: float = 1.0,
    observe: Observe | None = None,
) -> State:
    """Run the method's phases on the federation and return the state after the last.

    Args:
        fraction: share of the remaining clients that a training phase samples (seeded).
        observe: called after each training phase; what it returns is recorded as the round's metrics.

    Raises:
        RequestError: the method does not serve a scope of the job, lacks what it needs, or nobody would be left with
            data.
        TargetGone: a phase needs a target and none answered; of a target's own steps the first does.
        ClientError: nobody answered a phase.
    """
    check_serves(method, job, roster)
    check_needs(method, Supplies.of(state), state.settings)
    phases = checked_phases(method, state.settings, state.rounds)
    # A method that needs a target has forgotten nothing before the first phase that is the target's alone.
    first = next((n for n, phase in enumerate(phases) if phase.to == "target" and "target" in method.needs), None)
    done, state = recorder.resume(state)
    base_digest, base_record = digest_state(state.base), state_record(state.base)
    for number in range(done, len(phases)):
        phase = phases[number]
        down = phase.down(state)
        if down is None:
            continue
        content = RecordDict({CONFIG: _config(method, state, job, number, base_digest)})
        if state.mask is not None:
            content[MASK] = array_record(state.mask.to_arrays())
        if state.adapters is not None:
            content[ADAPTERS] = ConfigRecord({PLAN: state.adapters.plan.to_text()})
        if down.packed is not None:
            content[ARRAYS] = array_record(down.packed)
        if down.arrays:
            content[EXTRA] = array_record(down.arrays)
        clients = _audience(phase, roster, job, fraction, state.seed, number)
        collect = _Collected(phase, state, job)
        contents = dict.fromkeys(clients, content)
        outcome = exchange(grid, roster, phase.message, contents, timeout, base=base_record, take=collect.take)
        if not outcome.answers and phase.trains and phase.to == "target" and number != first:
            # A target that has left cannot take its own step; the remaining clients go on without it.
            recorder.record(state, state, PhaseReport(number, phase, outcome))
            continue
        if not outcome.answers:
            kind = TargetGone if phase.to == "target" else ClientError
            why = outcome.dropped[0][1] if outcome.dropped else f"there is no {phase.to} client."
            raise kind(f"nobody answered {phase.message!r} of method {method.name!r}: {why}")
        after = collect.combined()
        metrics = observe(phase, after) if observe and phase.trains else {}
        recorder.record(state, after, PhaseReport(number, phase, outcome, metrics))
        state = after
    return state


def check_serves(method: Method, job: Job, roster: Roster) -> None:
    """Raise RequestError when the method cannot serve the job, or when it would leave nobody with data."""
    unserved = job.scopes - method.scopes
    if unserved:
        serves = ", ".join(sorted(method.scopes))
        raise RequestError(
            f"method {method.name!r} does not serve requests of scope {', '.join(sorted(unserved))}; "
            f"it serves {serves}."
        )
    if not roster.retaining():
        raise RequestError(
            f"serving {', '.join(job.requests)} would leave the federation without data; "
            "at least one client must keep samples to train on."
        )


@dataclass(frozen=True)
class Supplies:
    """What a run has of that which methods need.

    Attributes:
        history: what was kept of the rounds of training.
        server_data: whether the server has samples of its own.
        prepared_for: methods for which clients prepared something.
        task: what is learned; None: not known here, and whoever computes with it finds out.
    """

    history: History
    server_data: bool
    prepared_for: Collection[str]
    task: Task | None = None

    @staticmethod
    def of(state: State) -> Supplies:
        """What a branch that starts in this state is given."""
        return Supplies(state.history, state.server_data is not None, state.prepared_for, state.task)


def check_needs(method: Method, supplies: Supplies, settings: UnlearnSettings | None = None) -> None:
    """Raise RequestError, which says what is lacking and what to do, when the run has not what the method needs.

    A target that is away is found when it is asked. Single replies are there for every method: this package sums
    nothing in secret, and says of a method that it could not work where that is done.
    """
    lacking = _lacking(method, supplies) or _lacking_with(method, supplies, settings)
    if lacking:
        raise RequestError(f"method {method.name!r} needs {lacking}, or use a method that does not need it.")


def _lacking(method: Method, supplies: Supplies) -> str:
    """What the run lacks of the method's needs, and what to do about it; "": nothing."""
    train = f"train with --prepare-for {method.name}"
    if "stored-updates" in method.needs:
        why = supplies.history.lacking(training_hook(method).keep_updates_every or 1)
        if why:
            return f"the updates of the rounds of training, and {why}: {train}"
    if "server-data" in method.needs and not supplies.server_data:
        return "unlabelled samples at the server, and this run gave it none: train with --server-data 0.1"
    if "prepared-clients" in method.needs and method.name not in supplies.prepared_for:
        return f"what clients prepare while the federation trains, and in this run they did not: {train}"
    return "" if supplies.task is None else _lacking_of(method.needs, supplies.task)


def _lacking_with(method: Method, supplies: Supplies, settings: UnlearnSettings | None) -> str:
    """What is lacking for the options that were chosen (`needs_with`)."""
    needs_with = getattr(method, "needs_with", None)
    if settings is None or supplies.task is None or needs_with is None:
        return ""
    return _lacking_of(needs_with(settings), supplies.task)


def check_task(method: Method, task: Task) -> None:
    """Raise RequestError when the method cannot be used on such a task."""
    lacking = _lacking_of(method.needs, task)
    if lacking:
        raise RequestError(f"method {method.name!r} needs {lacking}, or use a method that does not need it.")


def _lacking_of(needs: Collection[Need], task: Task) -> str:
    for need, (kind, what) in _OF_TASKS.items():
        if need in needs and not isinstance(task, kind):
            return f"{what}, and task {task.name!r} is none: train another task"
    return ""


_OF_TASKS: Mapping[Need, tuple[type, str]] = {
    "class-scores": (LogitsTask, "a task that answers with scores of classes"),
    "other-goals": (TargetedTask, "a task whose model can be trained towards other images"),
    "encoder": (EncodingTask, "a task whose model has an encoder"),
}


def _audience(phase: Phase, roster: Roster, job: Job, fraction: float, seed: int, number: int) -> tuple[int, ...]:
    targets = tuple(client for client in job.targets if client in roster.members)
    retaining = roster.retaining()
    if phase.to == "target":
        return targets
    if phase.to == "all":
        return tuple(sorted({*targets, *retaining}))
    if phase.trains and fraction < 1:
        return sample(retaining, fraction, derive_seed(seed, "sample", number))
    return retaining


def sample(clients: Sequence[int], fraction: float, seed: int) -> tuple[int, ...]:
    """A seeded share of `clients`, at least one, in order."""
    count = max(1, round(fraction * len(clients)))
    chosen = np.random.default_rng(seed).choice(np.asarray(clients), size=count, replace=False)
    return tuple(sorted(int(client) for client in chosen))


def _config(method: Method, state: State, job: Job, number: int, base: str) -> ConfigRecord:
    return ConfigRecord(
        {
            "method": method.name,
            "phase": number,
            "rounds": state.rounds,
            "requests": list(job.requests),
            "base": base,
            "seed": state.seed,
            "settings": json.dumps(state.settings.model_dump(mode="json"), sort_keys=True),
        }
    )


class _Collected:
    """The replies of a phase: added as they come where the phase averages them, kept until all are there elsewhere."""

    def __init__(self, phase: Phase, state: State, job: Job) -> None:
        self._phase, self._state, self._targets = phase, state, job.targets
        self._running = phase.combine.begin(state) if isinstance(phase.combine, Average) else None
        self._replies: list[ClientReply] = []

    def take(self, answer: Answer) -> None:
        """One answer. Raises ClientError for one that cannot be used."""
        reply = ClientReply(
            client=answer.client,
            role="target" if answer.client in self._targets else "remaining",
            arrays=answer.arrays,
            metrics={name: float(value) for name, value in answer.metrics.items() if not isinstance(value, list)},
        )
        if self._running is not None:
            self._running.add(reply)
        else:
            nothing_but_finite(answer)
            weight_of(reply.metrics, f"client {answer.client}")
            self._replies.append(reply)

    def combined(self) -> State:
        """The state after the phase."""
        return self._phase.combine(self._state, self._replies) if self._running is None else self._running.result()
