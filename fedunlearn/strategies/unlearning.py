"""UnlearningStrategy: any Flower strategy, made able to serve deletion requests between two rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from torch import nn

from fedunlearn.channels.layout import Layout
from fedunlearn.channels.packing import digest_state
from fedunlearn.config import UnlearnSettings, recovery_passes
from fedunlearn.errors import ClientError
from fedunlearn.flower_arrays import live_record
from fedunlearn.randomness import derive_seed
from fedunlearn.strategies.combined_reply import CombinedReply
from fedunlearn.strategies.content import ARRAYS, numpy_arrays, payload_bytes, state_of, state_record
from fedunlearn.strategies.exchange import Outcome
from fedunlearn.strategies.inner import forget_optimizer_state, is_the_mean, takes_the_mean
from fedunlearn.strategies.localisation import TooFewReferences
from fedunlearn.strategies.method import ModelState, State, methods
from fedunlearn.strategies.reception import Answer, Reception, Sent, nothing_but_finite
from fedunlearn.strategies.roster import Roster, call_roll, tell
from fedunlearn.strategies.serving import ForgetfulRecorder, Job, classes_gone, sample, serve
from fedunlearn.tasks.training import TrainingSettings


@dataclass(frozen=True)
class Architecture:
    """What the server knows of the model: its channels, and how to make a fresh one.

    Attributes:
        layout: the layers that have channels.
        fresh: seed -> a newly initialised state.
        network: a state -> a network with these weights, for methods that compute at the server; None: they cannot.
    """

    layout: Layout
    fresh: Callable[[int], ModelState]
    network: Callable[[ModelState], nn.Module] | None = None


ServePending = Callable[[Grid, Roster, ModelState], ModelState]
KeepUpdate = Callable[[int, Answer], None]
"""Is given the number of a round and each sound answer of it, once, as it comes; it must not hold on to the arrays."""


class UnlearningStrategy(Strategy):
    """Wraps `inner`: we choose the nodes (seeded) and average (in fixed client order); it does the rest.

    Args:
        inner: any strategy of `flwr.serverapp.strategy`.
        architecture: the model's channels and fresh weights.
        training: the clients' local recipe; retraining and recovery use it.
        rounds: rounds of a full training; what retraining from scratch costs.
        seed: of the run; client sampling, local shuffling and reset values follow from it.
        unlearn: how requests that arrive between two rounds are served.
        timeout: seconds a client may take to answer.
        serve_pending: what to do with announced requests instead of serving them with `unlearn`; it gets the
            grid, the roster and the model, and returns the model that training goes on with.
        first_round: number of the first round that `start` runs, for a training that is resumed.
        keep_update: what to do with each sound answer of an ordinary round beside averaging it; None: nothing.
    """

    def __init__(
        self,
        inner: Strategy,
        architecture: Architecture,
        training: TrainingSettings,
        *,
        rounds: int,
        seed: int = 0,
        unlearn: UnlearnSettings | None = None,
        timeout: float = 600.0,
        serve_pending: ServePending | None = None,
        first_round: int = 1,
        keep_update: KeepUpdate | None = None,
    ) -> None:
        self.inner = inner
        self.architecture = architecture
        self.training = training
        self.rounds = rounds
        self.seed = seed
        self.unlearn = unlearn or UnlearnSettings(local_epochs=recovery_passes(training.local_epochs))
        self.timeout = timeout
        self.first_round = first_round
        self.roster = Roster({})
        self.last_round = Outcome((), ())
        self._serve_pending = serve_pending or self.serve_announced
        self._keep_update = keep_update
        self._asked: tuple[int, ...] = ()
        self._sent = Sent({}, lambda client: RecordDict(), "train")
        self._flagged: frozenset[int] = frozenset()
        self._model: dict[str, np.ndarray] = {}
        self._initial: ModelState | None = None
        self._gone: frozenset[int] = frozenset()
        self._down = 0
        self._started = 0.0

    def summary(self) -> None:
        """Log the wrapped strategy's settings."""
        self.inner.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Serve what was announced since the last round, then address the inner strategy's message."""
        self._started = time.monotonic()
        if server_round + self.first_round == 2:
            self._initial = state_of(arrays)
        self._call_roll(grid)
        if self.roster.announced:
            before = state_of(arrays)
            after = self._serve_pending(grid, self.roster, before)
            arrays = state_record(after)
            if digest_state(after) != digest_state(before):
                forget_optimizer_state(self.inner)
        number = server_round + self.first_round - 1
        eligible = self.roster.retaining()
        if not eligible:
            raise ClientError("no client has samples left to train on; the federation cannot go on.")
        config["seed"] = self.seed
        visible = cast(Grid, _Nodes(self.roster, eligible))
        template = list(self.inner.configure_train(number, arrays, config, visible))
        if not template:
            self._asked = ()
            return []
        content = template[0].content
        self._model = numpy_arrays(arrays)
        self._down = payload_bytes(content)
        self._asked = self._choose(eligible, len(template), number)
        nodes = {client: self.roster.members[client].node for client in self._asked}
        self._sent = Sent(nodes, lambda client: content, "train", str(number))
        return self._sent.messages()

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average the sound replies as they come, in client order, or hand all to a strategy that needs them."""
        number = server_round + self.first_round - 1
        combined, whole = CombinedReply(self._model), list[Message]()

        def keep(answer: Answer) -> None:
            nothing_but_finite(answer)
            whole.append(cast(Message, answer.message))

        averaging = takes_the_mean(self.inner)
        use = combined.add if averaging else keep

        def take(answer: Answer) -> None:
            use(answer)
            if self._keep_update is not None:
                self._keep_update(number, answer)

        reception = Reception(self._asked, take, self.timeout)
        reception.receive(self._sent, replies)
        answers, dropped = reception.answers, reception.dropped
        # Handlers that are not ours raise no flag, and who failed may have asked to leave: both are asked.
        raised = {a.client for a in answers if a.flags.get("deletion-request", True)}
        self._flagged = frozenset(raised.union(client for client, _ in dropped))
        self.last_round = Outcome(
            answers=tuple(answers),
            dropped=tuple(dropped),
            bytes={c: {"down": self._down, "up": reception.up.get(c, 0), "base": 0} for c in self._asked},
            seconds=time.monotonic() - self._started,
        )
        if not answers:
            why = dropped[0][1] if dropped else "no reply came."
            raise ClientError(f"nobody answered round {number}: {why}")
        if is_the_mean(self.inner):
            content = combined.content()
            averaged = self.inner.train_metrics_aggr_fn([content], self.inner.weighted_by_key)
            return content.array_records[ARRAYS], averaged
        if averaging:
            whole = [Message(combined.content(), self.roster.members[answers[0].client].node, "train")]
        arrays, metrics = self.inner.aggregate_train(number, whole)
        if arrays is None:
            return None, metrics
        # Some strategies average counters too; a model keeps its own types.
        typed = {n: a.astype(self._model[n].dtype, copy=False) for n, a in numpy_arrays(arrays).items()}
        return live_record(typed), metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """As the inner strategy does."""
        return self.inner.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """As the inner strategy does."""
        return self.inner.aggregate_evaluate(server_round, replies)

    def serve_announced(self, grid: Grid, roster: Roster, model: ModelState) -> ModelState:
        """Serve every announced request with `unlearn`, all in one go, tell the targets, and return the model.

        Where too few clients keep data for anything to be localised, the model is retrained.
        """
        job = job_of(roster)

        def served_with(settings: UnlearnSettings) -> ModelState:
            state = self.state_for(job, model, settings)
            method = methods.get(settings.method)
            return serve(grid, roster, method, state, job, ForgetfulRecorder(), self.timeout).model

        try:
            served = served_with(self.unlearn)
        except TooFewReferences:
            epochs = self.training.local_epochs
            served = served_with(UnlearnSettings(method="retrain", rounds=self.rounds, local_epochs=epochs))
        self._gone |= frozenset(job.classes)
        told: dict[int, list[tuple[str, str, str]]] = {}
        for one in roster.announced:
            told.setdefault(one.client, []).append((one.id, "done", ""))
        tell(grid, roster, told, self.timeout)
        return served

    def state_for(self, job: Job, model: ModelState, settings: UnlearnSettings, branch: str = "unlearn") -> State:
        """The state in which serving `job` starts: nothing selected, reset values drawn."""
        seed = derive_seed(self.seed, branch, *job.requests)
        return State(
            base=model,
            model=model,
            layout=self.architecture.layout,
            seed=seed,
            fresh=self.architecture.fresh(derive_seed(seed, "fresh")),
            initial=self._initial or self.architecture.fresh(self.seed),
            settings=settings,
            training=self.training,
            rounds=self.rounds,
            targets=job.targets,
            gone=tuple(sorted({*job.classes, *self._gone})),
            network=self.architecture.network,
        )

    def _call_roll(self, grid: Grid) -> None:
        """Everybody at first; later only whoever raised the flag, was not sampled, or is not on the roster yet."""
        members = self.roster.members
        if not members:
            self.roster = call_roll(grid, self.timeout)
            return
        heard = {members[client].node for client in self._asked if client not in self._flagged}
        later = call_roll(grid, self.timeout, set(grid.get_node_ids()) - heard)
        if any(one.scope == "class-everywhere" for one in later.announced):
            # Some of its targets answered the round before it was filed; it is to be served with all of them.
            later = call_roll(grid, self.timeout)
        self.roster = self.roster.joined_by(later)

    def _choose(self, eligible: tuple[int, ...], count: int, number: int) -> tuple[int, ...]:
        if count >= len(eligible):
            return eligible
        return sample(eligible, count / len(eligible), derive_seed(self.seed, "sample", number))


def job_of(roster: Roster) -> Job:
    """All announced requests as one job."""
    return Job(
        requests=tuple(sorted({one.id for one in roster.announced})),
        targets=tuple(sorted({one.client for one in roster.announced})),
        scopes=frozenset(one.scope for one in roster.announced),
        classes=classes_gone((one.scope, one.classes) for one in roster.announced),
    )


class _Nodes:
    """As much of a grid as a strategy looks at when it samples: some of the nodes."""

    def __init__(self, roster: Roster, clients: tuple[int, ...]) -> None:
        self._nodes = [roster.members[client].node for client in clients]

    def get_node_ids(self) -> Iterable[int]:
        """Nodes of the clients that may be sampled."""
        return list(self._nodes)
