"""The recovery round: whoever holds retained data trains the moving part of the model on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.aggregation import average
from fedunlearn.strategies.method import Down, Phase, Reply, State, Work
from fedunlearn.tasks.cohort import train_one
from fedunlearn.tasks.local_training import LocalTraining
from fedunlearn.tasks.training import TrainingResult, TrainingSettings


def local_recipe(training: TrainingSettings, settings: UnlearnSettings) -> TrainingSettings:
    """The federation's recipe with the epochs and the learning rate that this request asks for."""
    rate = settings.learning_rate or training.learning_rate
    return replace(training, local_epochs=settings.local_epochs, learning_rate=rate)


def send_packed(state: State) -> Down:
    """What goes down in a round: the moving part of the model."""
    return Down(packed=state.packed())


def send_with_arrays(state: State) -> Down:
    """The same, and what earlier phases left in the state."""
    return Down(packed=state.packed(), arrays=state.arrays)


@dataclass(frozen=True)
class Recovery:
    """Train on the retained samples; only the moving part changes.

    Args:
        recipe: how.
    """

    recipe: Callable[[Work], TrainingSettings]

    def __call__(self, work: Work) -> Reply:
        """One client's recovery, by itself."""
        training = self.training(work)
        return self.told(work, train_one(training, work.device))

    def training(self, work: Work) -> LocalTraining:
        """What is to be trained."""
        portion = None if work.mask is None else work.portion
        return LocalTraining(work.task, work.model, work.retain, self.recipe(work), work.generator, portion)

    def told(self, work: Work, result: TrainingResult) -> Reply:
        """The moving part as it has become."""
        return work.updated(len(work.retain), loss=result.mean_loss, epochs=self.recipe(work).local_epochs)


FRESH_ROWS_RATE = 1.5
"""Rows that start from fresh values learn at this multiple of the federation's rate, unless one is asked for, and in
batches of half the size: in the same number of local passes they have to come further."""
SETTLING = 1 / 3
"""The last of several rounds learns at this share of the rate: what small batches and clients of different data leave
in noise would otherwise be served."""


def recovery_of_selected(rounds: int) -> list[Phase]:
    """The recovery rounds of fresh rows; the last of several lets them settle."""
    if rounds < 2:
        return [RECOVER_SELECTED] * rounds
    return [*[RECOVER_SELECTED] * (rounds - 1), SETTLE_SELECTED]


def _selected_recipe(work: Work) -> TrainingSettings:
    recipe = local_recipe(work.training, work.settings)
    if work.mask is None:
        return recipe
    recipe = replace(recipe, batch_size=max(1, recipe.batch_size // 2))
    if work.settings.learning_rate is None:
        recipe = replace(recipe, learning_rate=FRESH_ROWS_RATE * recipe.learning_rate)
    return recipe


def _settling_recipe(work: Work) -> TrainingSettings:
    recipe = _selected_recipe(work)
    return recipe if work.mask is None else replace(recipe, learning_rate=SETTLING * recipe.learning_rate)


train_on_retained = Recovery(lambda work: local_recipe(work.training, work.settings))
train_selected = Recovery(_selected_recipe)
"""With the rate and the batches that fresh rows need where some are selected."""
settle_selected = Recovery(_settling_recipe)
"""As `train_selected`, at the rate of the last round."""

RECOVER = Phase("train.recover", "remaining", send_packed, train_on_retained, average)
RECOVER_SELECTED = replace(RECOVER, compute=train_selected)
SETTLE_SELECTED = replace(RECOVER, compute=settle_selected)
