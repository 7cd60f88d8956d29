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
    result = train_locally(
        work.task,
        work.model,
        work.retain,
        local_recipe(work.training, work.settings),
        work.generator,
        portion=None if work.mask is None else work.portion,
    )
    return work.updated(len(work.retain), loss=result.mean_loss, epochs=work.settings.local_epochs)


FRESH_ROWS_RATE = 2.5
"""Rows that start from fresh values learn at this multiple of the federation's rate, unless one is asked for."""


def train_selected(work: Work) -> Reply:
    """As `train_on_retained`, at the rate that fresh rows need."""
    if work.mask is None or work.settings.learning_rate is not None:
        return train_on_retained(work)
    rate = FRESH_ROWS_RATE * work.training.learning_rate
    return train_on_retained(replace(work, settings=work.settings.model_copy(update={"learning_rate": rate})))


RECOVER = Phase("train.recover", "remaining", send_packed, train_on_retained, average)
RECOVER_SELECTED = replace(RECOVER, compute=train_selected)
