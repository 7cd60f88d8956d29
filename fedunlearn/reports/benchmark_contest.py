"""A contest's documents over their seeds: who could take part, what each got of the budget, and the retrained band."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedunlearn.reports.benchmark_measures import FIGURES, distance_to
from fedunlearn.reports.document import Document, Model, value
from fedunlearn.reports.spread import Spread, spread


@dataclass(frozen=True)
class ContenderAggregate:
    """One contender of one cell over its seeds.

    Attributes:
        method: its registered name. kind: what sort of method it is.
        settings: its settings on the first seed.
        cannot: seed -> why it could not serve the request.
        of: what is limited, "client_epochs" or "bytes".
        allowed: mean of what it was allowed; None: it was not limited.
        spent: what it spent. rounds: that it had.
        own_rounds: whether its number of rounds is not the budget's to say.
        over: seeds on which it spent more than it was allowed.
    """

    method: str
    kind: str
    settings: Mapping[str, Any]
    cannot: Mapping[int, str]
    of: str
    allowed: float | None
    spent: Spread | None
    rounds: Spread | None
    own_rounds: bool
    over: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        """The attributes, for JSON."""
        return {
            "method": self.method,
            "kind": self.kind,
            "settings": dict(self.settings),
            "cannot": {str(seed): why for seed, why in self.cannot.items()},
            "budget": {
                "of": self.of,
                "allowed": self.allowed,
                "spent": None if self.spent is None else self.spent.as_dict(),
                "rounds": None if self.rounds is None else self.rounds.as_dict(),
                "own_rounds": self.own_rounds,
                "over": list(self.over),
            },
        }


@dataclass(frozen=True)
class BandAggregate:
    """What retrained models of one cell differ by from seed to seed of theirs.

    Attributes:
        size: retrained models of each of the cell's seeds, the one that distances are measured to included.
        figures: figure -> least and most of these models, each as the mean over the cell's seeds.
        distance: of the further models to the one that distances are measured to: what no method needs to beat.
    """

    size: int
    figures: Mapping[str, tuple[float, float]]
    distance: Spread | None

    def as_dict(self) -> dict[str, Any]:
        """The attributes, for JSON."""
        return {
            "size": self.size,
            "figures": {key: {"least": least, "most": most} for key, (least, most) in self.figures.items()},
            "distance_to_retrained": None if self.distance is None else self.distance.as_dict(),
        }

    def holds(self, distance: Spread | None) -> bool:
        """Whether a mean distance is no larger than the largest of a further retrained model."""
        return distance is not None and self.distance is not None and distance.mean <= self.distance.most


def band_of(document: Document) -> tuple[str, ...]:
    """Names of the further retrained models of a document."""
    return tuple(document.get("band") or ())


def aggregate_band(
    stages: Sequence[Mapping[str, Model]], members: Sequence[Sequence[str]], keys: Iterable[str]
) -> BandAggregate | None:
    """The band of one cell; None where no seed has one.

    Args:
        stages: model -> entry, one a seed. members: names of the further retrained models, one a seed.
        keys: figures of which the distance is the mean.
    """
    names = list(keys)
    of_seeds = [
        [models[name] for name in ("retrained", *own) if name in models]
        for models, own in zip(stages, members, strict=True)
    ]
    several = [models for models in of_seeds if len(models) > 1]
    if not several:
        return None
    figures = {}
    for measure in FIGURES:
        ranges = []
        for models in several:
            known = [number for model in models if (number := value(model, measure.key)) is not None]
            if known:
                ranges.append((min(known), max(known)))
        if ranges:
            figures[measure.key] = (
                statistics.fmean(least for least, _ in ranges),
                statistics.fmean(most for _, most in ranges),
            )
    distances = [distance_to(model, models[0], names) for models in several for model in models[1:]]
    return BandAggregate(min(len(models) for models in several), figures, spread(distances))


def aggregate_contenders(documents: Sequence[Document]) -> dict[str, ContenderAggregate]:
    """Contender -> its aggregate, in the order of the first document that has it. Void seeds tell of refusals only."""
    entries: dict[str, list[tuple[Document, Mapping[str, Any]]]] = {}
    for document in documents:
        for name, entry in (document.get("methods") or {}).items():
            entries.setdefault(name, []).append((document, entry))
    return {name: _contender(several) for name, several in entries.items()}


def _contender(several: Sequence[tuple[Document, Mapping[str, Any]]]) -> ContenderAggregate:
    _, first = several[0]
    able = [(document, entry) for document, entry in several if not entry.get("cannot") and not document.get("void")]
    budgets = [entry["budget"] for _, entry in able]
    allowed = [one["allowed"] for one in budgets if one["allowed"] is not None]
    return ContenderAggregate(
        method=first["method"],
        kind=first["kind"],
        settings=first["settings"],
        cannot={int(document["seed"]): entry["cannot"] for document, entry in several if entry.get("cannot")},
        of=first["budget"]["of"],
        allowed=statistics.fmean(allowed) if allowed else None,
        spent=spread(one["spent"] for one in budgets),
        rounds=spread(one["rounds"] for one in budgets),
        own_rounds=bool(first["budget"]["own_rounds"]),
        over=tuple(int(document["seed"]) for document, entry in able if entry["budget"]["over"]),
    )
