"""What is audited: a model and those beside it, and how a message holds each of them once."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from fedunlearn.audit.places import Place
from fedunlearn.channels.packing import digest_state
from fedunlearn.strategies.method import ModelState


@dataclass(frozen=True)
class Audited:
    """A model to audit, and those beside it; what no asked metric needs is not sent. See `Subject`.

    Attributes:
        updates: None: one ordinary round around the model is asked of the remaining clients when a metric needs it,
            but only where all clients' folders are the run's own, as in simulation: elsewhere the target would be
            shown what the others learned.
    """

    model: ModelState
    references: Sequence[ModelState] = ()
    before: ModelState | None = None
    retrained: ModelState | None = None
    updates: Sequence[ModelState] | None = None
    shadows: Sequence[ModelState] = ()

    @property
    def given(self) -> dict[str, int]:
        """How many models of each kind there are."""
        return {
            "references": len(self.references),
            "before": int(self.before is not None),
            "retrained": int(self.retrained is not None),
            "updates": len(self.updates or ()),
            "shadows": len(self.shadows),
        }


class Pool:
    """The models of one message, each once, and where in it each is."""

    def __init__(self) -> None:
        self.models: list[ModelState] = []
        self.digests: list[str] = []
        # Beside its digest each model is kept, so that no other object takes its identity.
        self._known: dict[int, tuple[ModelState, int]] = {}

    def place(self, one: Audited, needs: Set[str]) -> Place:
        """Where the audited model and those beside it are; kinds that `needs` does not name are left out."""

        def several(kind: str, models: Sequence[ModelState] | None) -> tuple[int, ...]:
            return tuple(self._position(model) for model in models or ()) if kind in needs else ()

        def single(kind: str, model: ModelState | None) -> int | None:
            return self._position(model) if kind in needs and model is not None else None

        return Place(
            model=self._position(one.model),
            references=several("references", one.references),
            before=single("before", one.before),
            retrained=single("retrained", one.retrained),
            updates=several("updates", one.updates),
            shadows=several("shadows", one.shadows),
        )

    def _position(self, model: ModelState) -> int:
        if id(model) not in self._known:
            digest = digest_state(model)
            if digest not in self.digests:
                self.digests.append(digest)
                self.models.append(model)
            self._known[id(model)] = (model, self.digests.index(digest))
        return self._known[id(model)][1]
