"""Bad teaching: the forget set is taught by a network that knows nothing, the retained data by the original model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedunlearn.channels.packing import pack
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.strategies.by_role import AverageWithKept, KeepMean
from fedunlearn.strategies.method import EVERY_SCOPE, Down, Need, Phase, Reply, Scope, State, Work, methods
from fedunlearn.strategies.option import positive
from fedunlearn.strategies.passes import (
    FORGET_OPTIONS,
    ByPosition,
    answers,
    check_forget_options,
    divergence,
    forget_recipe,
    train_by_position,
    train_forgetting,
)
from fedunlearn.strategies.recovery import local_recipe, send_packed
from fedunlearn.tasks.base import with_classes

_TEACHER = "teacher:"


@dataclass(frozen=True)
class BadTeacher:
    """The student minimises its divergence from a random teacher on the forget set, from the original on the rest.

    The random teacher is the request's newly drawn model; it goes down to the target alone, in every round. Both roles
    start a round from the same model and are averaged by their numbers of samples.

    Options: `temperature` (default 1), `forget_rate` and `forget_epochs` (see `forget_recipe`).
    """

    name: str = "bad-teacher"
    source: str = (
        "Chundawat et al. 2023, arXiv 2205.08096; reconstruction: each role has its own teacher, and all the retained "
        "data are used where the authors draw a part"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target", "class-scores"})
    earnest: bool = False
    options: frozenset[str] = frozenset({"temperature"}) | FORGET_OPTIONS

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """`settings.rounds` rounds; in each the target's model is kept apart until the others' are there."""
        positive(settings, "temperature", 1.0)
        check_forget_options(settings)
        unlearn = Phase("train.forget", "target", _send_teacher, _follow_bad_teacher, KeepMean(name="mistaught"))
        remain = Phase("train.recover", "remaining", send_packed, _follow_original, AverageWithKept(name="mistaught"))
        return [unlearn, remain] * settings.rounds


def _send_teacher(state: State) -> Down:
    fresh = pack(state.fresh, state.portion)
    return Down(packed=state.packed(), arrays={f"{_TEACHER}{name}": array for name, array in fresh.items()})


def _follow_bad_teacher(work: Work) -> Reply:
    sent = {n.removeprefix(_TEACHER): a for n, a in work.arrays.items() if n.startswith(_TEACHER)}
    teacher = {**work.base, **{name: torch.from_numpy(array.copy()) for name, array in sent.items()}}
    loss = _divergence_from(work, teacher, work.forget)
    return train_forgetting(work, work.forget, loss, forget_recipe(work))


def _follow_original(work: Work) -> Reply:
    loss = _divergence_from(work, work.base, work.retain)
    return train_by_position(work, work.retain, loss, local_recipe(work.training, work.settings))


def _divergence_from(work: Work, teacher: dict[str, Tensor], samples: Samples) -> ByPosition:
    """A loss: the student's divergence from what a teacher answers to each sample."""
    wanted = answers(work, teacher, samples)
    temperature = positive(work.settings, "temperature", 1.0)

    def loss(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        return divergence(wanted[positions], with_classes(work.task).predict(model, inputs), temperature)

    return loss


methods.register("bad-teacher", BadTeacher())
