"""Boundary shrink: each forgotten sample is given to the nearest wrong class, so that its class's region closes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.aggregation import average
from fedunlearn.strategies.method import EVERY_SCOPE, Need, Phase, Reply, Scope, Work, methods
from fedunlearn.strategies.nearest_label import BOUND, shrink
from fedunlearn.strategies.option import positive
from fedunlearn.strategies.passes import FORGET_OPTIONS, check_forget_options
from fedunlearn.strategies.recovery import RECOVER, send_packed

FORGET_RATE = 0.3


@dataclass(frozen=True)
class BoundaryShrink:
    """The target trains on its forget set under the labels of the nearest wrong classes, then recovery rounds follow.

    The nearest wrong class is what the original model answers, out of all classes but the recorded one, after a step
    of `bound` along the sign of the loss's gradient by the input (FGSM), within the range of the inputs.

    Options: `bound` (default 0.1, in units of the network's inputs), `forget_rate` (default 0.3) and `forget_epochs`
    (see `forget_recipe`); the authors' rate of 1e-5 over ten passes leaves a model of this scale as it is.
    """

    name: str = "boundary-shrink"
    source: str = (
        "Chen et al. 2023, arXiv 2303.11570 (boundary unlearning); reconstruction: the recorded class is left out of "
        "the answers, and recovery rounds on retained data follow"
    )
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset({"target", "class-scores"})
    earnest: bool = False
    options: frozenset[str] = frozenset({"bound"}) | FORGET_OPTIONS

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """The target's passes, then `settings.rounds` recovery rounds."""
        positive(settings, "bound", BOUND)
        check_forget_options(settings)
        step = Phase("train.forget", "target", send_packed, _shrink, average)
        return [step, *[RECOVER] * settings.rounds]


def _shrink(work: Work) -> Reply:
    return shrink(work, FORGET_RATE, positive(work.settings, "bound", BOUND))


methods.register("boundary-shrink", BoundaryShrink())
