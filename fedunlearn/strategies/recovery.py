"""The recovery round: whoever holds retained data trains the moving part of the model on it."""

from __future__ import annotations

from dataclasses import replace

from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.aggregation import average
from fedunlearn.strategies.method import Down, Phase, Reply, State, Work
from fedunlearn.tasks.training import TrainingSettings, train_locally


def local_recipe(training: TrainingSettings, settings: UnlearnSettings) -> TrainingSettings:
    """The federation's recipe with the epochs and the learning rate that this request asks for."""
    rate = settings.learning_rate or training.learning_rate
    return replace(training, local_epochs=settings.local_epochs, learning_rate=rate)


def send_packed(state: State) -> Down:
    """What goes down in a round: the moving part of the model."""
    return Down(packed=state.packed())


def train_on_retained(work: Work) -> Reply:
    """Train on the retained samples; only the moving part changes."""
    return _train(work, local_recipe(work.training, work.settings))


FRESH_ROWS_RATE = 1.5
"""Rows that start from fresh values learn at this multiple of the federation's rate, unless one is asked for, and in
batches of half the size: in the same number of local passes they have to come further."""


def train_selected(work: Work) -> Reply:
    """As `train_on_retained`, with the rate and the batches that fresh rows need where some are selected."""
    recipe = local_recipe(work.training, work.settings)
    if work.mask is not None:
        recipe = replace(recipe, batch_size=max(1, recipe.batch_size // 2))
        if work.settings.learning_rate is None:
            recipe = replace(recipe, learning_rate=FRESH_ROWS_RATE * recipe.learning_rate)
    return _train(work, recipe)


def _train(work: Work, recipe: TrainingSettings) -> Reply:
    portion = None if work.mask is None else work.portion
    result = train_locally(work.task, work.model, work.retain, recipe, work.generator, portion=portion)
    return work.updated(len(work.retain), loss=result.mean_loss, epochs=recipe.local_epochs)


RECOVER = Phase("train.recover", "remaining", send_packed, train_on_retained, average)
RECOVER_SELECTED = replace(RECOVER, compute=train_selected)
