"""What an unlearning method is: a value with a list of phases, not a control flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from fedunlearn.announcement import Scope
from fedunlearn.channels.adapters import AdapterPlan, Adapters
from fedunlearn.channels.layout import Layout
from fedunlearn.channels.mask import ChannelMask
from fedunlearn.channels.packing import Portion, pack, unpack
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import SettingsError
from fedunlearn.registry import Registry
from fedunlearn.strategies.history import NO_HISTORY, History
from fedunlearn.tasks.base import Task
from fedunlearn.tasks.device import THIS_PROCESSOR, Device
from fedunlearn.tasks.local_training import LocalTraining
from fedunlearn.tasks.training import TrainingResult, TrainingSettings

Role = Literal["target", "remaining"]
Audience = Literal["target", "remaining", "all"]
ModelState = dict[str, torch.Tensor]

Need = Literal[
    "target",
    "stored-updates",
    "individual-updates",
    "server-data",
    "prepared-clients",
    "class-scores",
    "other-goals",
    "encoder",
]
"""What a method cannot do without: a target that answers; what each client sent in the rounds of training; the replies
of single clients, not only their sum (so not under secure aggregation); unlabelled samples at the server; what clients
prepared in their own folders while the federation trained; a task that answers with scores of classes; one whose
model can be trained towards other images, or has an encoder (`fedunlearn.tasks.encoding`)."""

EVERY_SCOPE: frozenset[Scope] = frozenset({"client", "classes", "samples", "class-everywhere"})


@dataclass(frozen=True)
class State:
    """What the server knows between two phases. Phases make a new one; nobody changes one in place.

    Attributes:
        base: the model that the request found; clients hold it by digest.
        model: the model so far; equal to `base` outside `portion`.
        layout: which layers of the model have channels.
        seed: of this branch; reset values and client generators are derived from it.
        mask: the selected channels; None means that everything moves.
        arrays: what phases leave for later ones, by name (the reference attribution, say).
        fresh: a newly initialised model: reset values, and where retraining starts.
        settings: how this request is served.
        training: the federation's own recipe.
        rounds: of the training behind `base`, or, where nobody counted them, of the federation's own recipe.
        targets: clients that hold part of the forget set.
        gone: classes that leave everywhere, by this request or an earlier one: nobody's answer any more.
        history: what the server kept of the rounds of training.
        server_data: unlabelled samples at the server, inputs only, as they are stored; None: there are none.
        task: what turns stored inputs into answers, for a method that computes at the server; None: not known.
        network: a model state -> a network with these weights, a new one each time; None: not known.
        prepared_for: methods for which clients prepared something while the federation trained.
        initial: the model that the federation's training started from, which knows nobody's data; empty: not known.
        adapters: low-rank factors beside the base's weights, which are then all that moves; None: the model itself
            moves. `model` is the base with them merged.
    """

    base: ModelState
    model: ModelState
    layout: Layout
    seed: int
    fresh: ModelState
    settings: UnlearnSettings
    training: TrainingSettings
    rounds: int
    mask: ChannelMask | None = None
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    targets: tuple[int, ...] = ()
    gone: tuple[int, ...] = ()
    history: History = NO_HISTORY
    server_data: torch.Tensor | None = None
    task: Task | None = None
    network: Callable[[ModelState], nn.Module] | None = None
    prepared_for: tuple[str, ...] = ()
    initial: ModelState = field(default_factory=dict)
    adapters: Adapters | None = None

    @property
    def portion(self) -> Portion:
        """The named parameters that move: everything, selected channels, or adapters."""
        if self.adapters is not None:
            return self.adapters.plan.portion
        return Portion.everything(self.base) if self.mask is None else self.mask.portion(self.layout)

    @property
    def moving(self) -> ModelState:
        """What `portion` is a portion of: the model so far, or its adapters."""
        return self.model if self.adapters is None else self.adapters.factors

    def packed(self) -> dict[str, np.ndarray]:
        """The moving part of the model so far."""
        return pack(self.moving, self.portion)

    def with_packed(self, packed: Mapping[str, np.ndarray]) -> State:
        """This state with the moving part of the model replaced."""
        after = unpack(self.moving, dict(packed), self.portion)
        if self.adapters is None:
            return replace(self, model=after)
        return self.with_adapters(replace(self.adapters, factors=after))

    def with_adapters(self, adapters: Adapters) -> State:
        """This state with these adapters beside the base, and the model that they make of it."""
        return replace(self, adapters=adapters, model=adapters.merged(self.base))


@dataclass(frozen=True)
class Work:
    """What a client computes a phase from. Nothing here leaves the client unless the reply names it.

    Attributes:
        role: "target" if the client holds part of the forget set.
        model: the received model, to be changed in place; with adapters in it where those are what moves.
        base: the state of the model that the request found.
        classes: number of classes.
        forget: the client's part of the forget set (training samples only).
        retain: the client's retained training samples.
        held_out: samples that the client never trained on, whether it keeps them or not.
        arrays: what came down beside the model.
        keep: stores arrays in the client's own folder under a name; they never cross the wire.
        device: where recovery trains.
        prepared: what this client prepared for the method while the federation trained, by name; empty: nothing.
        plan: which adapters are in the model; None: it has none.
    """

    role: Role
    task: Task
    model: nn.Module
    base: ModelState
    layout: Layout
    mask: ChannelMask | None
    portion: Portion
    classes: int
    forget: Samples
    retain: Samples
    held_out: Samples
    arrays: Mapping[str, np.ndarray]
    settings: UnlearnSettings
    training: TrainingSettings
    round: int
    generator: torch.Generator
    keep: Callable[[str, Mapping[str, np.ndarray]], None]
    device: Device = THIS_PROCESSOR
    prepared: Mapping[str, np.ndarray] = field(default_factory=dict)
    plan: AdapterPlan | None = None

    def updated(self, examples: int, **metrics: float) -> Reply:
        """The reply of a training phase: the moving part of the model as it is now."""
        return Reply(pack(self.model.state_dict(), self.portion), {"num-examples": examples, **metrics})


@dataclass(frozen=True)
class Reply:
    """What a client answers: arrays by name and a few numbers, both on the guard's allow-list."""

    arrays: Mapping[str, np.ndarray]
    metrics: Mapping[str, float]


@runtime_checkable
class TrainsLocally(Protocol):
    """A phase's compute that is local training and nothing else, so that several clients' may be done together."""

    def __call__(self, work: Work) -> Reply: ...

    def training(self, work: Work) -> LocalTraining:
        """What is to be trained."""
        ...

    def told(self, work: Work, result: TrainingResult) -> Reply:
        """What the client answers once that is done."""
        ...


@dataclass(frozen=True)
class Preparation:
    """What a client prepares for a later request from, after its training of an ordinary round.

    Attributes:
        model: as this client has just trained it; not to be changed.
        samples: its training samples.
        round: number of the round, 1 and up.
        prepared: what it prepared in the rounds before, by name.
    """

    task: Task
    model: nn.Module
    layout: Layout
    classes: int
    samples: Samples
    training: TrainingSettings
    round: int
    prepared: Mapping[str, np.ndarray]
    generator: torch.Generator


@dataclass(frozen=True)
class TrainingHook:
    """What a method needs done while the federation trains. It changes no model.

    Attributes:
        keep_updates_every: rounds after each of which the server keeps what every client sent (the first included);
            0: it keeps nothing.
        prepare: what a client computes after its own training, kept in its own folder in the place of what it had
            prepared before; None: nothing.
    """

    keep_updates_every: int = 0
    prepare: Callable[[Preparation], Mapping[str, np.ndarray]] | None = None


@dataclass(frozen=True)
class ClientReply:
    """A reply with its sender."""

    client: int
    role: Role
    arrays: Mapping[str, np.ndarray]
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Down:
    """What a phase sends to a client: its moving part of the model, or none (then the base), and arrays."""

    packed: Mapping[str, np.ndarray] | None = None
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Phase:
    """One exchange of a method.

    Attributes:
        message: Flower's message type, "query.NAME" or "train.NAME".
        to: who gets it. "remaining" is all who hold retained data, a target that keeps some included.
        down: what goes down; None when there is nothing to do in this state, and the phase is left out.
        compute: the client's computation, a pure function of what it is given.
        combine: how the replies, in fixed client order, become the next state.
    """

    message: str
    to: Audience
    down: Callable[[State], Down | None]
    compute: Callable[[Work], Reply]
    combine: Callable[[State, Sequence[ClientReply]], State]

    @property
    def trains(self) -> bool:
        """Whether clients train and the model moves."""
        return self.message.startswith("train.")

    @property
    def is_round(self) -> bool:
        """Whether it counts as a round: the remaining clients train. A target's own step belongs to one."""
        return self.trains and self.to != "target"


class Method(Protocol):
    """An unlearning algorithm. One file states both sides.

    Attributes:
        name: as the command line says it.
        source: the paper, and what of it is reconstruction.
        scopes: the scopes it serves.
        needs: what it cannot do without.
        needs_with: settings -> what certain options need beyond that (may be absent: nothing).
        options: names of its options (may be absent: then any is let through); see `checked_phases`.
        training_hook: what it needs done during training (may be absent: nothing).
        messages: what it sends only with certain options or in more rounds than one, by name (may be absent: nothing).
        earnest: whether it is meant to serve requests; false for controls and baselines (may be absent: it is).
        share_of_model: settings -> the share of the model that moves in a round; `local_epochs`: settings and the
            federation's training -> passes of a round; `estimate`: settings and `Facts` -> its `Estimate` (all may be
            absent); see `strategies.estimate`.
        remarks: settings -> sentences that belong beside its result (may be absent: none); see `remarks`.
        starts_fresh: whether its first round sends fresh weights (may be absent: it does not).
        trains_in_full: whether it is a whole training, with the federation's rounds and passes (may be absent: no).
        own_rounds: whether its rounds follow from something else than the settings (may be absent: they do not).
    """

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def scopes(self) -> frozenset[Scope]: ...
    @property
    def needs(self) -> frozenset[Need]: ...

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """The phases, in order. `rounds`: of the federation's own recipe. Raises SettingsError."""
        ...


def training_hook(method: Method) -> TrainingHook:
    """What the method needs done while the federation trains; nothing where it does not say."""
    hook = getattr(method, "training_hook", None)
    return hook if isinstance(hook, TrainingHook) else TrainingHook()


def remarks(method: Method, settings: UnlearnSettings) -> tuple[str, ...]:
    """What has to be told beside a result of the method with these settings, such as bounds and what they assume."""
    told: Callable[[UnlearnSettings], Sequence[str]] | None = getattr(method, "remarks", None)
    return tuple(told(settings)) if told is not None else ()


def checked_phases(method: Method, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
    """The method's phases, once the options are known to be its own.

    A method names its options in `options: frozenset[str]`; one that has no such attribute takes any.

    Raises:
        SettingsError: the method has no such option, or cannot work with these settings.
    """
    known: frozenset[str] | None = getattr(method, "options", None)
    unknown = sorted(set(settings.options) - known) if known is not None else []
    if unknown:
        has = f"its options: {', '.join(sorted(known))}" if known else "it has none"
        raise SettingsError(f"method {method.name!r} has no option {unknown[0]!r}; {has}.")
    return method.phases(settings, rounds)


methods: Registry[Method] = Registry("method", group="fedunlearn.methods")
