"""UNSIR: noise that maximises a class's loss is taught as that class (impair); retained data mend the rest (repair)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fedunlearn.audit.counts import MINIMUM_SAMPLES
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.strategies.aggregation import average
from fedunlearn.strategies.method import Need, Phase, Reply, Scope, Work, methods
from fedunlearn.strategies.option import number, positive, whole
from fedunlearn.strategies.passes import FORGET_OPTIONS, check_forget_options, forget_recipe, train_forgetting
from fedunlearn.strategies.recovery import RECOVER, send_packed
from fedunlearn.tasks.base import Task

NOISES, STEPS, RATE, PENALTY = 32, 40, 0.1, 0.1
FORGET_RATE = 0.3


@dataclass(frozen=True)
class Unsir:
    """The targets' impairing passes, then recovery rounds that repair.

    For each forgotten class a target learns `noises` inputs that maximise the class's loss under the original model,
    less `penalty` x their squared size, with `steps` steps of Adam at `noise_rate`. It then trains on this noise
    under the class's label, as often as it holds samples of the class, beside the samples that it retains; samples of
    the class itself are not shown.

    Options: `noises` (32), `steps` (40), `noise_rate` (0.1), `penalty` (0.1), `forget_rate` (0.3) and `forget_epochs`
    (see `forget_recipe`).
    """

    name: str = "unsir"
    source: str = (
        "Tarun et al. 2023, arXiv 2111.08947; reconstruction: the target impairs with its own retained samples, and "
        "the repair is made in rounds"
    )
    scopes: frozenset[Scope] = frozenset({"classes", "class-everywhere"})
    needs: frozenset[Need] = frozenset({"target", "class-scores"})
    earnest: bool = False
    options: frozenset[str] = frozenset({"noises", "steps", "noise_rate", "penalty"}) | FORGET_OPTIONS

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """The targets' passes, then `settings.rounds` recovery rounds."""
        _noise_options(settings)
        check_forget_options(settings)
        impair = Phase("train.forget", "target", send_packed, _impair, average)
        return [impair, *[RECOVER] * settings.rounds]


@dataclass(frozen=True)
class NoiseOptions:
    """How noise is learnt; see `Unsir`."""

    noises: int
    steps: int
    rate: float
    penalty: float


def _noise_options(settings: UnlearnSettings) -> NoiseOptions:
    return NoiseOptions(
        noises=whole(settings, "noises", NOISES, lowest=1),
        steps=whole(settings, "steps", STEPS, lowest=1),
        rate=positive(settings, "noise_rate", RATE),
        penalty=number(settings, "penalty", PENALTY),
    )


def _impair(work: Work) -> Reply:
    options = _noise_options(work.settings)
    original = copy.deepcopy(work.model)
    original.load_state_dict(dict(work.base))
    shape = work.task.inputs(work.forget.inputs[:1]).shape[1:]
    parts = []
    for label in work.forget.labels.unique():
        noise = maximise_loss(work.task, original, int(label), tuple(shape), options, work.generator)
        times = int((work.forget.labels == label).sum())
        parts.append(Samples(noise[torch.arange(times) % len(noise)], label.expand(times)))
    learnt = len(parts) * options.noises * options.steps
    if len(work.retain):
        parts.append(Samples(work.task.inputs(work.retain.inputs), work.retain.labels))
    samples = Samples.concat(parts)

    def loss(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        return work.task.loss(model, inputs, samples.labels[positions])

    reply = train_forgetting(work, samples, loss, forget_recipe(work, FORGET_RATE))
    # Noise is worked through too, once in each of its steps.
    epochs = reply.metrics["epochs"] + learnt / len(samples)
    metrics = {**reply.metrics, "epochs": epochs}
    if 0 < len(work.retain) < MINIMUM_SAMPLES:
        del metrics["loss"]  # who knows the noise knows the share of so few samples in it
    return replace(reply, metrics=metrics)


def maximise_loss(
    task: Task, model: nn.Module, label: int, shape: tuple[int, ...], options: NoiseOptions, generator: torch.Generator
) -> Tensor:
    """Noise (`options.noises` x `shape`) with a high loss under `label`, made of standard normal numbers."""
    model.eval()
    noise = torch.randn((options.noises, *shape), generator=generator).requires_grad_()
    labels = torch.full((options.noises,), label)
    optimizer = torch.optim.Adam([noise], lr=options.rate)
    for _ in range(options.steps):
        penalties = options.penalty * noise.flatten(1).square().sum(dim=1)
        wanted = (penalties - task.loss(model, noise, labels)).mean()
        [noise.grad] = torch.autograd.grad(wanted, [noise])
        optimizer.step()
    return noise.detach()


methods.register("unsir", Unsir())
