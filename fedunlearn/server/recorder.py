"""Writes each finished phase of a branch to the ledger, and finds the last one after a crash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fedunlearn.channels.adapters import AdapterPlan, Adapters
from fedunlearn.channels.mask import ChannelMask
from fedunlearn.channels.packing import digest_state
from fedunlearn.progress import in_words
from fedunlearn.server.ledger_tables import PhaseRow, RoundRow
from fedunlearn.server.session import Session
from fedunlearn.strategies.exchange import Outcome
from fedunlearn.strategies.method import State
from fedunlearn.strategies.serving import PhaseReport

_MASK, _ARRAY, _ADAPTER, _PLAN = "mask/", "array/", "adapter/", "adapter-plan"


class LedgerRecorder:
    """One branch of one run: a training phase is a round, any other is a phase."""

    def __init__(self, session: Session, branch: str, total: int) -> None:
        """`total`: number of the method's phases, for progress."""
        self._session = session
        self._branch = branch
        self._total = total

    def resume(self, state: State) -> tuple[int, State]:
        """Number of finished phases, and the state after the last of them."""
        ledger, models = self._session.ledger, self._session.models
        done: list[tuple[int, str, str | None]] = []
        for round_row in ledger.rounds(self._branch):
            done.append((round_row.metrics["phase"], round_row.digest_after, round_row.extras))
        for phase_row in ledger.phases(self._branch):
            done.append((phase_row.result["phase"], phase_row.digest_after, phase_row.result["extras"]))
        if not done:
            return 0, state
        number, digest, extras = max(done)
        return number + 1, _with_extras(replace(state, model=models.load(digest)), extras, self._session)

    def record(self, before: State, after: State, report: PhaseReport) -> None:
        """Save the model and what the phase left behind, then the row that makes the phase finished."""
        ledger, models = self._session.ledger, self._session.models
        digest_before, digest_after = digest_state(before.model), models.save(after.model)
        extras = _save_extras(after, self._session)
        outcome = report.outcome
        weight = {f"{report.phase.message}": _by_client(outcome)}
        if report.phase.is_round:
            number = len(ledger.rounds(self._branch)) + 1
            ledger.record_round(
                RoundRow(
                    branch=self._branch,
                    number=number,
                    digest_before=digest_before,
                    digest_after=digest_after,
                    participants=tuple(answer.client for answer in outcome.answers),
                    dropped=outcome.dropped,
                    bytes=weight,
                    metrics={
                        **report.metrics,
                        "phase": report.number,
                        "passes": passes(outcome),
                        **processed(outcome),
                        **told(outcome),
                    },
                    seconds=outcome.seconds,
                    extras=extras,
                    seed=after.seed,
                    mask=mask_digest(after.mask),
                )
            )
        else:
            seconds = {str(a.client): a.metrics.get("seconds", 0.0) for a in outcome.answers}
            ledger.record_phase(
                PhaseRow(
                    branch=self._branch,
                    name=f"{report.number}:{report.phase.message}",
                    digest_before=digest_before,
                    digest_after=digest_after,
                    result={
                        **report.metrics,
                        "phase": report.number,
                        "extras": extras,
                        "client_seconds": seconds,
                        "passes": passes(outcome),
                        **processed(outcome),
                        **told(outcome),
                        "dropped": outcome.dropped,
                    },
                    bytes=weight,
                    seconds=outcome.seconds,
                    seed=after.seed,
                    mask=mask_digest(after.mask),
                )
            )
        for client, sentence in outcome.dropped:
            ledger.append_event("client-dropped", {"branch": self._branch, "client": client, "why": sentence})
        self._session.tell(_words(self._branch), report.number + 1, self._total, in_words(report.metrics))


def mask_digest(mask: ChannelMask | None) -> str | None:
    """Digest of the selected channels, layer by layer; None where everything moved."""
    return None if mask is None else digest_state(dict(mask.selected))


def mask_among(extras: Mapping[str, Tensor]) -> ChannelMask | None:
    """The channel mask in what a phase left behind; None where everything moved."""
    selected = {n.removeprefix(_MASK): t for n, t in extras.items() if n.startswith(_MASK)}
    return ChannelMask(selected) if selected else None


def passes(outcome: Outcome) -> dict[str, float]:
    """Local passes over its data that each participant made."""
    return {str(a.client): float(a.metrics.get("epochs", 0.0)) for a in outcome.answers}  # type: ignore[arg-type]


def processed(outcome: Outcome) -> dict[str, dict[str, float]]:
    """Under "processed", how many samples each participant worked through: those it names, times its passes."""
    samples = {
        str(a.client): float(a.metrics["num-examples"]) * (float(a.metrics.get("epochs", 0.0)) or 1.0)  # type: ignore[arg-type]
        for a in outcome.answers
        if "num-examples" in a.metrics
    }
    return {"processed": samples}


TOLD = ("gate-open", "batches", "displaced", "displacement", "sigma")
"""What a method's own step tells of itself, beside what every training tells."""


def told(outcome: Outcome) -> dict[str, dict[str, float]]:
    """What participants told of their own step: name, with underscores -> client -> number; nothing where nobody did.

    "gate_open": share of batches that a target found below tau. "batches": steps. "displaced": share of the forget
    set's answers that are out of distribution, "displacement": their mean; "sigma": of the noise on an upload.
    """
    found: dict[str, dict[str, float]] = {}
    for answer in outcome.answers:
        for name in TOLD:
            if name in answer.metrics:
                found.setdefault(name.replace("-", "_"), {})[str(answer.client)] = float(answer.metrics[name])  # type: ignore[arg-type]
    return found


def _by_client(outcome: Outcome) -> dict[str, Mapping[str, int]]:
    return {str(client): dict(count) for client, count in outcome.bytes.items()}


def _words(branch: str) -> str:
    """A branch's name as people want to read it: "client-0-1: retrained"."""
    requests, _, rest = branch.partition("/")
    first, *more = requests.split("+")
    return f"{first}{f' and {len(more)} more' if more else ''}: {rest.partition('/')[0]}"


def _save_extras(state: State, session: Session) -> str | None:
    extras = {f"{_ARRAY}{name}": torch.from_numpy(np.array(array)) for name, array in state.arrays.items()}
    if state.mask is not None:
        extras |= {f"{_MASK}{layer}": channels for layer, channels in state.mask.selected.items()}
    if state.adapters is not None:
        extras |= {f"{_ADAPTER}{name}": factor for name, factor in state.adapters.factors.items()}
        extras[_PLAN] = torch.tensor(list(state.adapters.plan.to_text().encode()), dtype=torch.uint8)
    return session.models.save(extras) if extras else None


def _with_extras(state: State, digest: str | None, session: Session) -> State:
    if digest is None:
        return state
    extras = session.models.load(digest)
    arrays = {n.removeprefix(_ARRAY): t.numpy() for n, t in extras.items() if n.startswith(_ARRAY)}
    adapters = None
    if _PLAN in extras:
        factors = {n.removeprefix(_ADAPTER): t for n, t in extras.items() if n.startswith(_ADAPTER)}
        adapters = Adapters(AdapterPlan.of_text(bytes(extras[_PLAN].tolist()).decode()), factors)
    return replace(state, mask=mask_among(extras), arrays=arrays, adapters=adapters)
