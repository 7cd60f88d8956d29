"""A federation of a few lines: a tiny network, clients that are lists of samples, and phases run one after the other.

It has no guard, no messages and no bytes, so that an oracle can be written down beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fedunlearn.channels.layout import channel_layout
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.randomness import derive_seed
from fedunlearn.strategies.method import ClientReply, Method, Phase, State, Work, methods
from fedunlearn.tasks.classification import ClassificationTask
from fedunlearn.tasks.training import TrainingSettings

CLASSES, FEATURES, SEED = 3, 4, 7
TASK = ClassificationTask("tiny", "digits")
PLAIN = TrainingSettings(local_epochs=1, learning_rate=0.1, momentum=0.0, batch_size=8)


def network(seed: int = 0, normalised: bool = False) -> nn.Module:
    """Two linear layers, with a batch normalisation between them where asked."""
    generator = torch.Generator().manual_seed(seed)
    between: list[nn.Module] = [nn.BatchNorm1d(5)] if normalised else []
    model = nn.Sequential(nn.Linear(FEATURES, 5), *between, nn.Tanh(), nn.Linear(5, CLASSES))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def samples(count: int, seed: int = 1, classes: Sequence[int] = range(CLASSES)) -> Samples:
    """Samples that the label shifts."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor(list(classes))[torch.randint(0, len(classes), (count,), generator=generator)]
    inputs = torch.randn(count, FEATURES, generator=generator)
    inputs[torch.arange(count), labels] += 2.0
    return Samples(inputs, labels)


NONE = Samples(torch.empty(0, FEATURES), torch.empty(0, dtype=torch.int64))


@dataclass(frozen=True)
class Client:
    """What a client holds; a target is who has something to forget."""

    forget: Samples = NONE
    retain: Samples = NONE
    held_out: Samples = NONE


@dataclass
class Served:
    """The states after each phase, and what each was answered."""

    states: list[State] = field(default_factory=list)
    replies: list[tuple[Phase, list[ClientReply]]] = field(default_factory=list)

    @property
    def model(self) -> dict[str, torch.Tensor]:
        """At the end."""
        return self.states[-1].model


def start(model: nn.Module, settings: UnlearnSettings, training: TrainingSettings = PLAIN) -> State:
    """The state that a request finds."""
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layout = channel_layout(model, torch.zeros(2, FEATURES))
    normalised = any(isinstance(module, nn.BatchNorm1d) for module in model.modules())
    fresh = network(99, normalised).state_dict()
    return State(base, base, layout, SEED, fresh, settings, training, rounds=3)


def work_of(state: State, client: Client, number: int, phase: Phase, index: int) -> Work:
    """What the client at `index` computes phase `number` from."""
    down = phase.down(state)
    assert down is not None
    model = network(normalised=any("running" in name for name in state.base))
    model.load_state_dict(state.model if down.packed is not None else state.base)
    seed = derive_seed(state.seed, phase.message, number, index)
    return Work(
        role="target" if len(client.forget) else "remaining",
        task=TASK,
        model=model,
        base=state.base,
        layout=state.layout,
        mask=state.mask,
        portion=state.portion,
        classes=CLASSES,
        forget=client.forget,
        retain=client.retain,
        held_out=client.held_out,
        arrays=down.arrays,
        settings=state.settings,
        training=state.training,
        round=number,
        generator=torch.Generator().manual_seed(seed),
        keep=lambda name, arrays: None,
    )


def serve(
    model: nn.Module,
    clients: Sequence[Client],
    name: str,
    rounds: int = 1,
    training: TrainingSettings = PLAIN,
    local_epochs: int = 1,
    **options: str | float | int | bool,
) -> Served:
    """Run the phases of the method called `name` on `clients`, in this process."""
    settings = UnlearnSettings(method=name, rounds=rounds, local_epochs=local_epochs, options=options)
    method: Method = methods.get(name)
    state, served = start(model, settings, training), Served()
    for number, phase in enumerate(method.phases(settings, 3)):
        replies = []
        for index, client in enumerate(clients):
            asked = {"target": len(client.forget), "remaining": len(client.retain), "all": 1}[phase.to]
            if not asked:
                continue
            work = work_of(state, client, number, phase, index)
            reply = phase.compute(work)
            replies.append(ClientReply(index, work.role, reply.arrays, reply.metrics))
        state = phase.combine(state, replies)
        served.states.append(state)
        served.replies.append((phase, replies))
    return served


def generator_of(message: str, number: int, client: int = 0) -> torch.Generator:
    """The generator that client draws from in phase `number`."""
    return torch.Generator().manual_seed(derive_seed(SEED, message, number, client))


def loaded(state: dict[str, torch.Tensor]) -> nn.Module:
    """A network with these weights."""
    model = network(normalised=any("running" in name for name in state))
    model.load_state_dict(state)
    return model


def with_labels(some: Samples, labels: torch.Tensor) -> Samples:
    """The same inputs under other labels."""
    return replace(some, labels=labels)


@pytest.fixture(scope="session")
def tiny() -> SimpleNamespace:
    """All of the above, by name: modules of tests cannot import each other."""
    return SimpleNamespace(
        CLASSES=CLASSES,
        Client=Client,
        PLAIN=PLAIN,
        SEED=SEED,
        TASK=TASK,
        generator_of=generator_of,
        loaded=loaded,
        network=network,
        samples=samples,
        serve=serve,
        start=start,
        with_labels=with_labels,
        work_of=work_of,
    )
