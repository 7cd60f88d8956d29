"""A federation of a few lines on tiny images: clients that are lists of samples, and phases run one after the other."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from fedunlearn.channels.adapters import adapted
from fedunlearn.channels.layout import channel_layout
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.models.image_to_image import ImageToImageNetwork, region_of, squared_error
from fedunlearn.randomness import derive_seed
from fedunlearn.strategies.method import ClientReply, Phase, State, Work, methods
from fedunlearn.tasks.image_to_image import ImageToImage
from fedunlearn.tasks.training import TrainingSettings

SEED, SIDE = 7, 4
PLAIN = TrainingSettings(local_epochs=1, learning_rate=0.5, momentum=0.0, batch_size=64)


def lower_half(images: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    region = torch.zeros(len(images), 1, SIDE, SIDE)
    region[:, :, SIDE // 2 :] = 1.0
    return images * (1 - region), region


class Network(ImageToImageNetwork):
    """A linear encoder and a linear decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(2 * SIDE * SIDE, 6)
        self.decoder = nn.Linear(6, SIDE * SIDE)

    def encode(self, degraded: Tensor) -> Tensor:
        return torch.tanh(self.encoder(degraded.flatten(1)))

    def complete(self, degraded: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.sigmoid(self.decoder(self.encode(degraded))).reshape(-1, 1, SIDE, SIDE)

    def losses(self, degraded: Tensor, images: Tensor) -> Tensor:
        return squared_error(self.complete(degraded), images, region_of(degraded))


TASK = ImageToImage("tiny", "mnist5k", lower_half)


def network(seed: int = 0) -> Network:
    generator, model = torch.Generator().manual_seed(seed), Network()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def samples(count: int, seed: int = 1) -> Samples:
    """Images of stripes with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=generator)
    columns = torch.arange(SIDE)[None, :] == labels[:, None]
    images = columns[:, None, None, :].expand(count, 1, SIDE, SIDE).float()
    return Samples((0.8 * images + 0.2 * torch.rand(images.shape, generator=generator)), labels)


NONE = Samples(torch.empty(0, 1, SIDE, SIDE), torch.empty(0, dtype=torch.int64))


@dataclass(frozen=True)
class Client:
    """What a client holds; a target is who has something to forget."""

    forget: Samples = NONE
    retain: Samples = NONE
    held_out: Samples = NONE


@dataclass
class Served:
    """The states after each phase that was run, and what each was answered."""

    states: list[State] = field(default_factory=list)
    replies: list[tuple[Phase, list[ClientReply]]] = field(default_factory=list)

    @property
    def model(self) -> dict[str, Tensor]:
        return self.states[-1].model

    def of(self, message: str) -> list[list[ClientReply]]:
        return [replies for phase, replies in self.replies if phase.message == message]


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
    base = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    layout = channel_layout(model, torch.zeros(2, 2, SIDE, SIDE))

    def filled(state: Mapping[str, Tensor]) -> nn.Module:
        own = copy.deepcopy(model)
        own.load_state_dict(dict(state))
        return own

    state = State(base, base, layout, SEED, network(99).state_dict(), settings, training, rounds=3, network=filled)
    served = Served()
    for number, phase in enumerate(methods.get(name).phases(settings, 3)):
        down = phase.down(state)
        if down is None:
            continue
        replies = []
        for index, client in enumerate(clients):
            if not {"target": len(client.forget), "remaining": len(client.retain), "all": 1}[phase.to]:
                continue
            own: nn.Module = filled(state.model if down.packed is not None else state.base)
            if state.adapters is not None:
                own = adapted(filled(state.base), state.adapters)
            generator = torch.Generator().manual_seed(derive_seed(state.seed, phase.message, number, index))
            work = Work(
                role="target" if len(client.forget) else "remaining",
                task=TASK,
                model=own,
                base=state.base,
                layout=layout,
                mask=state.mask,
                portion=state.portion,
                classes=3,
                forget=client.forget,
                retain=client.retain,
                held_out=client.held_out,
                arrays=down.arrays,
                settings=settings,
                training=training,
                round=number,
                generator=generator,
                keep=lambda name, arrays: None,
            )
            reply = phase.compute(work)
            replies.append(ClientReply(index, work.role, reply.arrays, reply.metrics))
        state = phase.combine(state, replies)
        served.states.append(state)
        served.replies.append((phase, replies))
    return served


def generator_of(message: str, number: int, client: int = 0) -> torch.Generator:
    """The generator that a client draws from in phase `number`."""
    return torch.Generator().manual_seed(derive_seed(SEED, message, number, client))


def loaded(state: dict[str, Tensor]) -> Network:
    """A network with these weights."""
    model = Network()
    model.load_state_dict(state)
    return model


def slopes(model: nn.Module, value: Tensor) -> dict[str, Tensor]:
    """The gradient of a number by parameter; zero where it does not depend on it."""
    names = [name for name, _ in model.named_parameters()]
    found = torch.autograd.grad(value, list(model.parameters()), allow_unused=True, materialize_grads=True)
    return dict(zip(names, found, strict=True))


@pytest.fixture(scope="session")
def tiny() -> SimpleNamespace:
    """All of the above, by name: modules of tests cannot import each other."""
    return SimpleNamespace(
        Client=Client,
        PLAIN=PLAIN,
        TASK=TASK,
        generator_of=generator_of,
        loaded=loaded,
        network=network,
        samples=samples,
        serve=serve,
        slopes=slopes,
    )
