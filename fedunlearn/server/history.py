"""The rounds of training as the server kept them: the ledger says which files, the model store has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from fedunlearn.server.kept_updates import KEPT
from fedunlearn.server.ledger import MAIN
from fedunlearn.server.model_store import ModelStore
from fedunlearn.server.session import Session
from fedunlearn.strategies.history import StoredUpdate
from fedunlearn.strategies.serving import Job


@dataclass(frozen=True)
class KeptRound:
    """One round: the digest of the model that was sent, and client -> (digest, samples) of what came back."""

    model: str
    updates: Mapping[int, tuple[str, float]]


@dataclass(frozen=True)
class KeptHistory:
    """The kept rounds behind one model, read from the store when they are asked for.

    Attributes:
        kept: number of a round -> what was kept of it.
        total: rounds of training that the model has behind it.
        models: the run's.
    """

    kept: Mapping[int, KeptRound]
    total: int
    models: ModelStore

    def rounds(self) -> Sequence[int]:
        """Their numbers, ascending."""
        return tuple(sorted(self.kept))

    def digests(self) -> set[str]:
        """Everything that is stored for it: models that were sent, and what came back."""
        sent = {one.model for one in self.kept.values()}
        return sent | {digest for one in self.kept.values() for digest, _ in one.updates.values()}

    def lacking(self, every: int) -> str:
        """What keeps it from standing for the whole training, kept every so many rounds; "": nothing."""
        if not self.kept:
            return "this run kept none"
        edges = [0, *self.rounds(), self.total + 1]
        # The last kept round may lie up to `every` before the end, the first must be the first of all.
        wide = [n for n, following in pairwise(edges) if following - n > (every if n else 1)]
        if wide:
            return f"this run kept only those of rounds {', '.join(map(str, self.rounds()))} of {self.total}"
        gone = sorted(digest for digest in self.digests() if not self.models.has(digest))
        return f"{len(gone)} of the files that this run kept are gone, erased or lost" if gone else ""

    def model(self, number: int) -> dict[str, torch.Tensor]:
        """The global model that was sent in that round. Raises CorruptModel where it is gone."""
        return self.models.load(self.kept[number].model)

    def updates(self, number: int) -> Iterator[StoredUpdate]:
        """What the clients sent back, in the order of their ids. Raises CorruptModel where one is gone."""
        for client, (digest, weight) in sorted(self.kept[number].updates.items()):
            yield StoredUpdate(client, weight, self.models.load(digest))


def history_of(session: Session, job: Job, total: int) -> KeptHistory:
    """What was kept of the `total` rounds behind the model that a job found.

    What a client sent before another request of its own was served holds what that request wants forgotten, and is
    left out.
    """
    asked: dict[int, int] = {}
    for request in session.ledger.requests("done"):
        if request.id not in job.requests:
            for client in request.targets:
                asked[client] = max(asked.get(client, 0), request.arrived_round)
    kept = {}
    for row in session.ledger.rounds(MAIN):
        found = {
            int(client): (str(one["digest"]), float(one["weight"]))
            for client, one in row.metrics.get(KEPT, {}).items()
            if row.number > asked.get(int(client), 0)
        }
        if found and row.number <= total:
            kept[row.number] = KeptRound(row.digest_before, found)
    return KeptHistory(kept, total, session.models)
