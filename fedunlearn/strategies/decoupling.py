"""Clipped gradient ascent on a forget set until the model's answers to it are out of distribution; and its noise.

Steps of plain gradient descent, so that their size says how far the weights can have come: no further than
step x steps x clip, by the triangle inequality.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from fedunlearn.channels.layout import moving_averages
from fedunlearn.channels.packing import Portion
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.strategies.decoupling_ways import ways
from fedunlearn.strategies.moving_averages import averages_follow
from fedunlearn.strategies.option import positive, whole
from fedunlearn.tasks.base import Task
from fedunlearn.tasks.outputs import answers, displacements
from fedunlearn.tasks.randomness import isolated_seed
from fedunlearn.tasks.selected_parameters import SelectedParameters
from fedunlearn.tasks.training import modes_kept, repeated_batches

STEP, CLIP, MOST_STEPS, BATCH = 0.01, 1.0, 50, 64
DISPLACED = 0.95
"""Share of the forget set's answers that are to be displaced."""
GROWTH, PATIENCE = 1.001, 10
"""Where neither mean nor 5 % quantile of the displacements has grown by this factor for so many looks, answers come no
farther (they are black or white), and more steps would only make the loss, and what is left to retain, immeasurable."""
ASCENT_OPTIONS = frozenset({"step", "clip", "max_steps", "check_every"})


@dataclass(frozen=True)
class Ascent:
    """How the forget set's loss is raised.

    Attributes:
        step: eta, what a gradient is multiplied by.
        clip: C, the longest a gradient may be (Euclidean norm over all that moves).
        most_steps: T_max, after which it ends wherever it is, unless answers come no farther before.
        check_every: steps between two looks at the answers; a look is a pass over the forget set.
    """

    step: float = STEP
    clip: float = CLIP
    most_steps: int = MOST_STEPS
    check_every: int = 1

    @staticmethod
    def of(settings: UnlearnSettings) -> Ascent:
        """What the options say. Raises SettingsError."""
        return Ascent(
            positive(settings, "step", STEP),
            positive(settings, "clip", CLIP),
            whole(settings, "max_steps", MOST_STEPS, lowest=1),
            whole(settings, "check_every", 1, lowest=1),
        )

    @property
    def bound(self) -> float:
        """The farthest that the weights can come, eta x T_max x C (Euclidean norm)."""
        return self.step * self.most_steps * self.clip


@dataclass(frozen=True)
class Decoupled:
    """What an ascent came to.

    Attributes:
        steps: that were taken.
        samples: that were seen, counted as often as they were.
        displaced: share of the answers that are displaced by the threshold at least, 0 to 1.
        displacement: mean displacement of the answers, root mean square.
    """

    steps: int
    samples: int
    displaced: float
    displacement: float


def decouple(
    task: Task,
    model: nn.Module,
    forget: Samples,
    ascent: Ascent,
    threshold: float,
    generator: torch.Generator,
    portion: Portion | None = None,
) -> Decoupled:
    """Lead the answers to `forget` away, in place, until 95 % of them are displaced by `threshold` at least.

    What is raised for that, and which way is tried next from the original where one ends short, says
    `fedunlearn.strategies.decoupling_ways`. Of several ways that end short the one that displaces most is taken, and
    where answers came no farther, the model is the one of the look at which they had come farthest.
    The loss is computed in evaluation mode: statistics of normalisation layers stay those of the retained samples.
    Moving averages of parameters (a diffusion model answers with them) move by as much as these do, at once.

    Args:
        forget: one sample at least.
        threshold: lambda, a root mean square distance; see `fedunlearn.tasks.outputs`.
        portion: the rows that may change; None: everything.
    """
    before = answers(task, model, forget)
    steps = seen = 0
    ends: list[_Farthest] = []
    with (
        modes_kept(model),
        isolated_seed(int(torch.randint(2**62, (), generator=generator))),
        SelectedParameters(model, portion) as selected,
    ):
        model.eval()
        start = _Farthest(threshold, torch.zeros(len(forget)), selected.leaves)
        for way in ways(task, model, forget, before, threshold):
            _move(model, selected, start.leaves)
            end = _Farthest(threshold, start.displacement, start.leaves)
            batches = repeated_batches(len(forget), None, BATCH, generator)
            for step, batch in enumerate(islice(batches, ascent.most_steps), 1):
                selected.zero_gradients()
                way(batch, step == 1).backward()
                selected.collect_gradients()
                with averages_follow(model):
                    _climb(selected.leaves, ascent)
                    selected.write_back()
                steps, seen = steps + 1, seen + len(batch)
                if step % ascent.check_every == 0 or step == ascent.most_steps:
                    end.look(displacements(task, model, forget, before), selected.leaves)
                if end.arrived or end.stalled:
                    break
            ends.append(end)
            if end.arrived:
                break
        best = max(ends, key=lambda end: (end.share, end.mean))
        _move(model, selected, best.leaves)
    return Decoupled(steps, seen, best.share, best.mean)


class _Farthest:
    """Where the answers had come farthest on one way, and how many looks ago."""

    def __init__(self, threshold: float, displacement: Tensor, leaves: list[Tensor]) -> None:
        self._threshold, self._since = threshold, 0
        self._keep(displacement, leaves)

    @property
    def share(self) -> float:
        return _share(self.displacement, self._threshold)

    @property
    def mean(self) -> float:
        return float(self.displacement.mean())

    @property
    def arrived(self) -> bool:
        return is_displaced(self.displacement, self._threshold)

    @property
    def stalled(self) -> bool:
        return self._since >= PATIENCE

    def look(self, displacement: Tensor, leaves: list[Tensor]) -> None:
        self._since += 1
        now, before = _reached(displacement), _reached(self.displacement)
        grown = any(one > GROWTH * other for one, other in zip(now, before, strict=True))
        if grown or is_displaced(displacement, self._threshold):
            self._since = 0
            self._keep(displacement, leaves)

    def _keep(self, displacement: Tensor, leaves: list[Tensor]) -> None:
        self.displacement = displacement
        self.leaves = [leaf.detach().clone() for leaf in leaves]


def _reached(displacement: Tensor) -> tuple[float, float]:
    return float(displacement.mean()), float(displacement.quantile(1 - DISPLACED))


@torch.no_grad()
def _move(model: nn.Module, selected: SelectedParameters, leaves: list[Tensor]) -> None:
    with averages_follow(model):
        for leaf, kept in zip(selected.leaves, leaves, strict=True):
            leaf.copy_(kept)
        selected.write_back()


def _share(displacement: Tensor, threshold: float) -> float:
    return float((displacement >= threshold).double().mean())


def is_displaced(displacement: Tensor, threshold: float) -> bool:
    """Whether the 5 % quantile of displacements reaches the threshold: 95 % of them do."""
    return _share(displacement, threshold) >= DISPLACED


@torch.no_grad()
def _climb(leaves: list[Tensor], ascent: Ascent) -> None:
    gradients = [(leaf, leaf.grad) for leaf in leaves if leaf.grad is not None]
    norm = float(torch.stack([gradient.double().square().sum() for _, gradient in gradients]).sum().sqrt())
    for leaf, gradient in gradients:
        leaf.add_(gradient, alpha=ascent.step * min(1.0, ascent.clip / max(norm, 1e-12)))


@torch.no_grad()
def add_noise(model: nn.Module, deviation: float, generator: torch.Generator) -> None:
    """Add N(0, deviation^2) to every parameter, in place; moving averages start anew from the noisy parameters."""
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=deviation)
    for name, buffers in moving_averages(model).items():
        for buffer in buffers:
            model.get_buffer(buffer).copy_(model.get_parameter(name))
