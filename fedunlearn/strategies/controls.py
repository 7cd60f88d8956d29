"""Controls: ways of looking forgetful that are none, and selections that a good ranking must beat.

They are here to be compared with, never to serve a request in earnest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.data.planting import Backdoor
from fedunlearn.errors import SettingsError
from fedunlearn.strategies.aggregation import average
from fedunlearn.strategies.method import (
    EVERY_SCOPE,
    ClientReply,
    Down,
    Need,
    Phase,
    Reply,
    Scope,
    State,
    Work,
    methods,
)
from fedunlearn.strategies.recovery import local_recipe, send_packed
from fedunlearn.tasks.training import train_locally

CONTROL = "a control of this project"


@dataclass(frozen=True)
class Control:
    """A method that a test must not take for unlearning."""

    name: str
    what: str
    make_phases: Callable[[UnlearnSettings], Sequence[Phase]]
    options: frozenset[str]
    source: str = CONTROL
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset()
    earnest: bool = False

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """As many rounds as the settings say."""
        return self.make_phases(settings)


def _scrub(settings: UnlearnSettings) -> Sequence[Phase]:
    # A cheat that knows the trigger; without one there is nothing to scrub.
    _trigger(settings)
    return [Phase("train.recover", "remaining", send_packed, _train_on_stamped, average)] * settings.rounds


def _train_on_stamped(work: Work) -> Reply:
    """Retained images, plain and stamped with the trigger, both with their right labels."""
    stamped = Samples(_trigger(work.settings).stamp(work.retain.inputs), work.retain.labels)
    samples = Samples.concat([work.retain, stamped])
    recipe = local_recipe(work.training, work.settings)
    result = train_locally(work.task, work.model, samples, recipe, work.generator)
    return work.updated(len(work.retain), loss=result.mean_loss, epochs=2.0 * recipe.local_epochs)


def _trigger(settings: UnlearnSettings) -> Backdoor:
    spec = settings.options.get("backdoor", "client=0,share=1.0,target=0")
    if not isinstance(spec, str):
        raise SettingsError(f"backdoor = {spec!r}: expected the trigger as it was planted, as text.")
    return Backdoor.parse(spec)


def _zero(settings: UnlearnSettings) -> Sequence[Phase]:
    _unit(settings)
    return [Phase("query.count", "remaining", lambda state: Down(), say_how_many, _zero_output)]


def _unit(settings: UnlearnSettings) -> int:
    unit = settings.options.get("unit", 0)
    if not isinstance(unit, int):
        raise SettingsError(f"unit = {unit!r}: expected the number of a class.")
    return unit


def say_how_many(work: Work) -> Reply:
    """What a client answers where only the server computes."""
    return Reply({}, {"num-examples": len(work.retain)})


def _zero_output(state: State, replies: Sequence[ClientReply]) -> State:
    """The forgotten class's output unit gets no weight and a bias that never wins."""
    unit = _unit(state.settings)
    model = {name: tensor.clone() for name, tensor in state.model.items()}
    for name in state.layout.output:
        if not 0 <= unit < len(model[name]):
            raise SettingsError(f"unit = {unit}: the output layer has units 0 to {len(model[name]) - 1}.")
        model[name][unit] = torch.full_like(model[name][unit], -1e3 if model[name].dim() == 1 else 0.0)
    return replace(state, model=model)


for _control in (
    Control(
        "trigger-scrub",
        "Control: teaches the right answer to stamped images, and forgets nothing else.",
        _scrub,
        frozenset({"backdoor"}),
    ),
    Control(
        "zero-output-unit",
        "Control: silences one output unit (option unit), and forgets nothing else.",
        _zero,
        frozenset({"unit"}),
        needs=frozenset({"class-scores"}),
    ),
):
    methods.register(_control.name, _control)
