"""QuickDrop: clients condense their samples while the federation trains; forgetting and recovery use the condensed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from fedunlearn.audit.counts import MINIMUM_SAMPLES
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import ClientError
from fedunlearn.strategies.aggregation import average
from fedunlearn.strategies.federated.condensation import match_gradients, starting_images
from fedunlearn.strategies.method import Down, Need, Phase, Preparation, Reply, Scope, TrainingHook, Work, methods
from fedunlearn.strategies.option import positive, whole
from fedunlearn.strategies.recovery import local_recipe, send_packed
from fedunlearn.tasks.training import train_locally

SHARE = 0.01
"""Synthetic images a sample: one in a hundred, one a class at least."""
STEPS, STEP, REAL = 4, 0.05, 64
"""Matching steps a class and round, their length, and how many real images they match."""
ASCENT_RATE, ASCENT_EPOCHS = 0.05, 20
RECOVERY_RATE, RECOVERY_EPOCHS = 0.02, 5
"""The authors' ascent is one epoch at 0.004, on hundreds of synthetic images; here a client has tens, and one epoch of
them is one step."""
NAME = "images:"


def condense(preparation: Preparation) -> dict[str, np.ndarray]:
    """The client's synthetic images, "images:CLASS" -> float32 (M, ...), improved by one round's few steps.

    A class of which the client trains on fewer than 20 samples has none, and what was made of it before is let go.
    """
    images = {}
    model = preparation.model
    for label in range(preparation.classes):
        members = (preparation.samples.labels == label).nonzero().squeeze(1)
        if len(members) < MINIMUM_SAMPLES:
            continue
        inputs = preparation.task.inputs(preparation.samples.inputs[members])
        count = max(1, math.ceil(SHARE * len(members)))
        before = preparation.prepared.get(f"{NAME}{label}")
        if before is None or len(before) != count:
            synthetic = starting_images(inputs, count, preparation.generator)
        else:
            synthetic = torch.from_numpy(np.array(before))
        chosen = torch.randperm(len(inputs), generator=preparation.generator)[:REAL]
        matched = match_gradients(preparation.task, model, inputs[chosen], label, synthetic, STEPS, STEP)
        images[f"{NAME}{label}"] = matched.to(torch.float32).numpy()
    return images


@dataclass(frozen=True)
class QuickDrop:
    """Ascent of the target on the synthetic images of what goes, then rounds of descent on those of what stays.

    Options: `ascent_rate` (0.05), `ascent_epochs` (20), `recovery_rate` (0.02), `recovery_epochs` (5 a round). Losses
    are raised to twice that of guessing and no further, so that many epochs do no harm.
    """

    name: str = "quickdrop"
    source: str = (
        "Dhasade et al. 2024, QuickDrop (Middleware, arXiv 2311.15603); reconstruction: few matching steps a round, "
        "a start from noisy class means, the bound of the ascent, its rate and epochs, a client forgotten by the "
        "synthetic images of all its classes"
    )
    scopes: frozenset[Scope] = frozenset({"client", "classes", "class-everywhere"})
    needs: frozenset[Need] = frozenset({"target", "prepared-clients", "class-scores"})
    options: frozenset[str] = frozenset({"ascent_rate", "ascent_epochs", "recovery_rate", "recovery_epochs"})
    training_hook: TrainingHook = field(default_factory=lambda: TrainingHook(prepare=condense))

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """Whether the target can, its ascent, then `settings.rounds` rounds."""
        up = positive(settings, "ascent_rate", ASCENT_RATE), whole(settings, "ascent_epochs", ASCENT_EPOCHS, 1)
        epochs = whole(settings, "recovery_epochs", RECOVERY_EPOCHS, 1)
        down = positive(settings, "recovery_rate", RECOVERY_RATE), epochs

        def ascend(work: Work) -> Reply:
            return _train(work, synthetic_samples(work.prepared, work.forget.labels), *up, rising=True)

        def descend(work: Work) -> Reply:
            return _train(work, synthetic_samples(work.prepared, work.retain.labels), *down, rising=False)

        recover = Phase("train.recover", "remaining", send_packed, descend, average)
        return [
            Phase("query.count", "target", lambda state: Down(), _say_it_can, lambda state, replies: state),
            Phase("train.forget", "target", send_packed, ascend, average),
            *[recover] * settings.rounds,
        ]


def synthetic_samples(prepared: Mapping[str, np.ndarray], labels: Tensor) -> Samples:
    """The synthetic images, as the model takes them, of the classes that occur among `labels`.

    Raises ClientError when there are none.
    """
    found = {label: prepared.get(f"{NAME}{label}") for label in labels.unique().tolist()}
    images = {label: torch.from_numpy(np.array(array)) for label, array in found.items() if array is not None}
    if not images:
        raise ClientError(
            f"this client has condensed nothing of what is asked about, which takes {MINIMUM_SAMPLES} samples of a "
            "class; use a method that needs nothing prepared, such as retrain."
        )
    return Samples.concat([Samples(one, torch.full((len(one),), label)) for label, one in images.items()])


def _say_it_can(work: Work) -> Reply:
    """A target that has nothing to ascend on says so before anything moves. Raises ClientError."""
    synthetic_samples(work.prepared, work.forget.labels)
    return Reply({}, {"num-examples": len(work.forget)})


def _train(work: Work, samples: Samples, rate: float, epochs: int, rising: bool) -> Reply:
    bound = 2 * math.log(work.classes)

    def raised(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        return (bound - work.task.loss(model, inputs, labels)).relu()

    recipe = replace(local_recipe(work.training, work.settings), learning_rate=rate, local_epochs=epochs)
    if rising:
        # Momentum would go on once the bound is reached.
        recipe = replace(recipe, momentum=0.0)
    loss = raised if rising else None
    # The synthetic images are floating point, which tasks take as they are.
    result = train_locally(work.task, work.model, samples, recipe, work.generator, loss=loss)
    # An epoch of the condensed is a small part of an epoch of the client's own.
    own = len(work.forget) if rising else len(work.retain)
    passes = epochs * len(samples) / max(1, own)
    return work.updated(own, loss=result.mean_loss, epochs=passes, batches=result.batches)


methods.register("quickdrop", QuickDrop())
