"""Random labels (amnesiac): the forget set is learnt again under wrong labels, beside the retained data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fedunlearn.audit.counts import MINIMUM_SAMPLES
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.randomness import derive_seed
from fedunlearn.strategies.aggregation import average
from fedunlearn.strategies.by_role import AverageWithTarget
from fedunlearn.strategies.method import EVERY_SCOPE, Down, Need, Phase, Reply, Scope, State, Work, methods
from fedunlearn.strategies.option import whole
from fedunlearn.strategies.passes import wrong_labels
from fedunlearn.strategies.recovery import local_recipe
from fedunlearn.tasks.training import train_locally


@dataclass(frozen=True)
class RandomLabel:
    """Joint rounds: the target trains on its forget set under wrong labels, drawn once, everybody on what is retained.

    Option: `repeats` (default 1), how often a target shows each relabelled sample in a pass; more of them weigh more
    in the average too.
    """

    name: str = "random-label"
    source: str = (
        "Graves et al. 2021, arXiv 2010.10981 (amnesiac unlearning by relabelling); reconstruction: FedAvg over the "
        "relabelled and the retained samples, each where it is"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target", "class-scores"})
    earnest: bool = False
    options: frozenset[str] = frozenset({"repeats"})

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """`settings.rounds` joint rounds; the first cannot do without a target."""
        whole(settings, "repeats", 1, lowest=1)
        first = Phase("train.joint", "all", send_with_seed, _train, AverageWithTarget())
        later = Phase("train.joint", "all", send_with_seed, _train, average)
        return [first, *[later] * (settings.rounds - 1)]


def send_with_seed(state: State) -> Down:
    """The model, and the seed of the labels: the same in every round."""
    return Down(packed=state.packed(), arrays={"seed": np.array([derive_seed(state.seed, "labels")])})


def relabelled(work: Work) -> Samples:
    """The client's part of the forget set, each sample under a wrong label."""
    generator = torch.Generator().manual_seed(int(work.arrays["seed"][0]))
    return Samples(work.forget.inputs, wrong_labels(work.forget.labels, work.classes, generator))


def _train(work: Work) -> Reply:
    repeats = whole(work.settings, "repeats", 1, lowest=1)
    samples = Samples.concat([*[relabelled(work)] * repeats, work.retain])
    recipe = local_recipe(work.training, work.settings)
    portion = None if work.mask is None else work.portion
    result = train_locally(work.task, work.model, samples, recipe, work.generator, portion)
    # However often they were shown: a mean over fewer samples says too much of each.
    several = len(work.forget) + len(work.retain) >= MINIMUM_SAMPLES
    loss = {"loss": result.mean_loss} if several else {}
    return work.updated(len(samples), epochs=recipe.local_epochs, **loss)


methods.register("random-label", RandomLabel())
