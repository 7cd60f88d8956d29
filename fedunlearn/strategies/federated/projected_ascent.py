"""Projected gradient ascent: the target raises its losses inside a ball around the model without it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.strategies.aggregation import average
from fedunlearn.strategies.controls import say_how_many
from fedunlearn.strategies.federated.weight_vectors import flatten, weight_names, with_weights
from fedunlearn.strategies.method import (
    EVERY_SCOPE,
    ClientReply,
    Down,
    ModelState,
    Need,
    Phase,
    Reply,
    Scope,
    State,
    Work,
    methods,
)
from fedunlearn.strategies.option import positive, whole
from fedunlearn.strategies.recovery import RECOVER, local_recipe, send_with_arrays
from fedunlearn.tasks.base import Task
from fedunlearn.tasks.randomness import isolated_seed
from fedunlearn.tasks.training import modes_kept, repeated_batches, train_locally

RATE, MOMENTUM, CLIP, EPOCHS, BATCH = 0.01, 0.9, 5.0, 5, 128
"""The ascent of the authors' notebook."""
RADIUS, INITIALISATIONS = 1 / 3, 10
"""The ball's squared radius, as a share of the mean squared distance to that many newly initialised models."""
STOP = 2.2
"""Squared distance to the target's own model beyond which the ascent ends."""
CLIENTS = "clients"


@dataclass(frozen=True)
class ProjectedAscent:
    """The target's ascent, then recovery rounds of the others.

    Options: `ascent_rate` (0.01), `ascent_epochs` (5), `clip` (gradient norm, 5), `radius` (1/3 of the mean squared
    distance to new models, squared), `stop_distance` (squared distance to the target's own model, 2.2).
    """

    name: str = "projected-gradient-ascent"
    source: str = (
        "Halimi et al. 2022, Federated Unlearning: How to Efficiently Erase a Client in FL? (arXiv 2207.05521), with "
        "the numbers of the authors' notebook; reconstruction: the target's own model is trained from the present one, "
        "for the server keeps none, and other scopes than a client, where the ascent is on what they name"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target"})
    options: frozenset[str] = frozenset({"ascent_rate", "ascent_epochs", "clip", "radius", "stop_distance"})

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """Count the clients, ascend, and `settings.rounds` recovery rounds."""
        Ascent.of(settings)
        return [
            Phase("query.count", "all", lambda state: Down(), say_how_many, _count),
            Phase("train.forget", "target", send_with_arrays, _ascend, average),
            *[RECOVER] * settings.rounds,
        ]


@dataclass(frozen=True)
class Ascent:
    """How losses are raised: rate, epochs, gradient norm at most, share for the radius, squared distance to stop at."""

    rate: float = RATE
    epochs: int = EPOCHS
    clip: float = CLIP
    radius: float = RADIUS
    stop: float = STOP

    @staticmethod
    def of(settings: UnlearnSettings) -> Ascent:
        """What the options say. Raises SettingsError."""
        return Ascent(
            positive(settings, "ascent_rate", RATE),
            whole(settings, "ascent_epochs", EPOCHS, lowest=1),
            positive(settings, "clip", CLIP),
            positive(settings, "radius", RADIUS),
            positive(settings, "stop_distance", STOP),
        )


def without_client(model: Tensor, own: Tensor, clients: int) -> Tensor:
    """The model that `clients` clients averaged to without one of them: (N w - w_u) / (N - 1)."""
    return (clients * model - own) / (clients - 1) if clients > 1 else model


def project(vector: Tensor, centre: Tensor, squared_radius: float) -> Tensor:
    """The point of the ball around `centre` that is nearest to `vector`."""
    offset = vector - centre
    squared = float(offset @ offset)
    return vector if squared <= squared_radius else centre + offset * (squared_radius / squared) ** 0.5


def squared_radius(model: nn.Module, names: Sequence[str], centre: Tensor, share: float, seed: int) -> float:
    """`share` of the mean squared distance from `centre` to new initialisations of the model, ten of them.

    Modules are initialised by their own `reset_parameters`; one without it keeps its weights.
    """
    blank, total = copy.deepcopy(model), 0.0
    with isolated_seed(seed):
        for _ in range(INITIALISATIONS):
            for module in blank.modules():
                reset = getattr(module, "reset_parameters", None)
                if callable(reset):
                    reset()
            offset = flatten(blank.state_dict(), names) - centre
            total += float(offset @ offset)
    return share * total / INITIALISATIONS


def ascend(
    task: Task,
    model: nn.Module,
    samples: Samples,
    names: Sequence[str],
    own: Tensor,
    within: float,
    ascent: Ascent,
    generator: torch.Generator,
) -> tuple[int, float]:
    """Raise the losses of `samples` in place, in the ball of squared radius `within` around the model as it is.

    Args:
        names: the weights that move, in the order of `own`.
        own: the target's own model, flattened.

    Returns:
        Batches, and the mean loss that they showed.
    """
    parameters = dict(model.named_parameters())
    moving = [parameters[name] for name in names if name in parameters]
    optimizer = torch.optim.SGD(moving, lr=ascent.rate, momentum=MOMENTUM)
    centre = flatten(model.state_dict(), names)
    batches, total = 0, 0.0
    with modes_kept(model), isolated_seed(int(torch.randint(2**62, (), generator=generator))):
        model.train()
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()  # what is to go shall not shape the statistics of what stays
        for batch in repeated_batches(len(samples), ascent.epochs, BATCH, generator):
            optimizer.zero_grad()
            loss = task.loss(model, task.inputs(samples.inputs[batch]), samples.labels[batch]).mean()
            (-loss).backward()
            torch.nn.utils.clip_grad_norm_(moving, ascent.clip)
            optimizer.step()
            batches, total = batches + 1, total + float(loss.detach())
            vector = project(flatten(model.state_dict(), names), centre, within)
            model.load_state_dict(with_weights(model.state_dict(), names, vector))
            if float((vector - own) @ (vector - own)) > ascent.stop:
                break
    return batches, total / batches


def _ascend(work: Work) -> Reply:
    ascent = Ascent.of(work.settings)
    start: ModelState = {name: tensor.clone() for name, tensor in work.model.state_dict().items()}
    names = weight_names(start, work.layout)
    recipe = local_recipe(work.training, work.settings)
    train_locally(work.task, work.model, work.forget, recipe, work.generator)
    own = flatten(work.model.state_dict(), names)
    centre = without_client(flatten(start, names), own, int(work.arrays[CLIENTS][0]))
    work.model.load_state_dict(with_weights(start, names, centre))
    seed = int(torch.randint(2**62, (), generator=work.generator))
    within = squared_radius(work.model, names, centre, ascent.radius, seed)
    batches, loss = ascend(work.task, work.model, work.forget, names, own, within, ascent, work.generator)
    per_epoch = -(-len(work.forget) // BATCH)
    # The target's own model costs a training of its own.
    epochs = recipe.local_epochs + batches / per_epoch
    return work.updated(len(work.forget), loss=loss, epochs=epochs, batches=batches)


def _count(state: State, replies: Sequence[ClientReply]) -> State:
    """How many clients there are."""
    return replace(state, arrays={CLIENTS: np.array([len(replies)], np.float32)})


methods.register("projected-gradient-ascent", ProjectedAscent())
