"""What a branch cost, read from its ledger rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedunlearn.audit.operations import operations_per_sample
from fedunlearn.channels.packing import Portion, nbytes
from fedunlearn.server.ledger_tables import PhaseRow, RoundRow
from fedunlearn.server.model_store import ModelStore
from fedunlearn.server.session import Session
from fedunlearn.strategies.method import ModelState

VALUE_BYTES = 4
"""Of one parameter, for counting the server's additions."""


def cost_of(
    rounds: Iterable[RoundRow],
    phases: Iterable[PhaseRow],
    model_bytes: int,
    operations: float = 0.0,
    size_of: Callable[[str], int] | None = None,
    history: Iterable[str] = (),
) -> dict[str, Any]:
    """Rounds, clients, local work, bytes each way, what is stored, and times.

    "bytes_up" and "bytes_down" are the payload of training and query messages; evaluation is on neither side.
    "bytes_with_base" adds the whole model once for every client that was sent a part of it. "active_clients" were sent
    something. "stored_bytes" are the models and the rest that the server keeps of the rounds. "client_flops" are the
    samples that clients worked through times `operations`; "server_flops" a multiplication and an addition for each
    value that came back from training.

    Args:
        model_bytes: payload of the whole model.
        operations: floating-point operations of one sample's answer and gradient; 0 where they were not counted.
        size_of: digest -> bytes of what is stored under it; None: nothing is looked up.
        history: digests of what was kept of the rounds of training, for a method that works from it.
    """
    rounds, phases = list(rounds), list(phases)
    up = down = trained = 0
    partly: set[str] = set()
    active: set[str] = set()
    everything: list[RoundRow | PhaseRow] = [*rounds, *phases]
    for row in everything:
        for message, clients in row.bytes.items():
            for client, count in clients.items():
                up += count["up"]
                down += count["down"]
                active.add(client)
                if message.startswith("train"):
                    trained += count["up"]
                    if 0 < count["down"] < model_bytes:
                        partly.add(client)
    results = [*(r.metrics for r in rounds), *(p.result for p in phases)]
    samples = sum(number for result in results for number in result.get("processed", {}).values())
    return {
        "rounds": len(rounds),
        "active_clients": len(active),
        "client_epochs": _client_epochs(results),
        "samples_processed": samples,
        "client_flops": samples * operations,
        "server_flops": 2 * trained / VALUE_BYTES,
        "bytes_up": up,
        "bytes_down": down,
        "bytes_with_base": up + down + model_bytes * len(partly),
        "stored_bytes": 0 if size_of is None else sum(map(size_of, sorted({*_stored(everything), *history}))),
        "seconds": sum(row.seconds for row in everything),
        "attribution_seconds": sum(_client_seconds(row.result) for row in phases if "query" in row.name),
    }


def _stored(rows: list[RoundRow | PhaseRow]) -> set[str]:
    """Digests of what the rows' phases left behind: each model once, and masks, references and the like."""
    extras = [row.extras if isinstance(row, RoundRow) else row.result.get("extras") for row in rows]
    return {row.digest_after for row in rows} | {str(digest) for digest in extras if digest}


def _client_epochs(results: Iterable[Mapping[str, Any]]) -> float:
    """Mean local passes over a participant's data."""
    total: dict[str, float] = {}
    for result in results:
        for client, count in result.get("passes", {}).items():
            total[client] = total.get(client, 0.0) + count
    trained = [count for count in total.values() if count]
    return sum(trained) / len(trained) if trained else 0.0


def _client_seconds(result: Mapping[str, Any]) -> float:
    return sum(float(seconds) for seconds in result.get("client_seconds", {}).values())


@dataclass(frozen=True)
class Price:
    """What turns the ledger's rows into costs: bytes of the model, operations of a sample, sizes of stored files."""

    model_bytes: int
    operations: float
    models: ModelStore

    @staticmethod
    def of(session: Session, base: ModelState) -> Price:
        """The run's prices; `base` is any of its models."""
        some = session.dataset.test.take(range(min(8, len(session.dataset.test))))
        operations = operations_per_sample(session.task, session.blank, some).training
        return Price(nbytes(Portion.everything(base), base), operations, session.models)

    def of_rows(
        self, rounds: Sequence[RoundRow], phases: Sequence[PhaseRow], history: Collection[str] = ()
    ) -> dict[str, Any]:
        """As `cost_of`."""
        return cost_of(rounds, phases, self.model_bytes, self.operations, self._size_of, history)

    def _size_of(self, digest: str) -> int:
        return self.models.path(digest).stat().st_size if self.models.has(digest) else 0
