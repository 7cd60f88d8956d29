"""Fine-tuning every parameter on the retained data: the cheapest thing that could be called unlearning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.method import EVERY_SCOPE, Need, Phase, Scope, methods
from fedunlearn.strategies.recovery import RECOVER


@dataclass(frozen=True)
class FineTuning:
    """Recovery rounds from the original model, every parameter moving."""

    name: str = "fine-tune"
    source: str = "the usual baseline: training goes on without the forget set"
    scopes: frozenset[Scope] = EVERY_SCOPE
    needs: frozenset[Need] = frozenset()
    options: frozenset[str] = frozenset()
    earnest: bool = False

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """`settings.rounds` recovery rounds."""
        return [RECOVER] * settings.rounds


methods.register("fine-tune", FineTuning())
