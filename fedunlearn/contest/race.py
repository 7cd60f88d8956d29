"""A race: every contender from the same original model with the same forget set, and what each got of the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedunlearn.config import UnlearnSettings
from fedunlearn.contest.budget import ROUNDING, Budget, account, bytes_of, rounds_for_bytes, runs_its_own_rounds
from fedunlearn.contest.contender import BAND, kind_of
from fedunlearn.errors import FedunlearnError, RunFolderError
from fedunlearn.server.comparing import Before
from fedunlearn.server.cost import cost_of
from fedunlearn.server.ledger_tables import BranchRow
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.session import Session
from fedunlearn.strategies import methods
from fedunlearn.strategies.asked import settings_beside

if TYPE_CHECKING:
    from fedunlearn.federation import Federation

PILOT = "pilot of {}"


def race(
    federation: Federation,
    ids: Sequence[str],
    contenders: Mapping[str, UnlearnSettings],
    budget: Budget,
    band: int,
    *,
    rounds_after: int = 0,
    controls: Mapping[str, UnlearnSettings] | None = None,
    pooled: bool = False,
    without: Sequence[str] = (),
    before: Before | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run what takes part, compare all of it, and return the comparison's document and what a benchmark adds to it.

    A contender that cannot serve the request is no error: why is told in its entry.

    Args:
        ids: requests that were served together.
        band: further retrained models.
        controls: what is run beside, whatever the budget; one that cannot is an error.
        without: models that are left out of the document.
        before: earlier requests: each contender goes on from the model that it had after the last of them, and one that
            could not serve that one cannot go on.

    Returns:
        The document, and "methods": contender -> method, kind, settings, "cannot" (None or a sentence) and budget;
        "band": names of the further retrained models. Both are there only where there are some.

    Raises:
        FedunlearnError: training, retraining or a control did not work.
    """
    able, refused = dict[str, UnlearnSettings](), dict[str, str]()
    allowed = _allowed_bytes(federation, ids, budget) if contenders else None
    for name, settings in contenders.items():
        start = None if before is None else before.models.get(name)
        if before is not None and start is None:
            refused[name] = "it could not serve an earlier request, so that it has no model to go on from."
            continue
        try:
            fitting = settings
            if allowed is not None:
                fitting = _within_bytes(federation, ids, name, settings, allowed, start)
            able[name] = _run_within(federation, ids, name, fitting, budget.epochs_of(federation.settings), start)
        except RunFolderError:
            raise  # of the machine's making, not the method's
        except FedunlearnError as error:
            refused[name] = str(error)
    members = {f"{BAND}{number}": _retraining(federation) for number in range(1, band + 1)}
    beside = {**(controls or {}), **able, **members}
    compared = federation.compare(ids, rounds_after=rounds_after, controls=beside, pooled=pooled, before=before)
    document = dict(compared.document)
    for part in ("models", "rounds"):
        document[part] = {name: entry for name, entry in document[part].items() if name not in without}
    for deletion in document.get("deletions", ()):
        deletion["forget"] = {name: entry for name, entry in deletion["forget"].items() if name not in without}
    if document.get("after") is not None and without:
        later = {name: entry for name, entry in document["after"]["models"].items() if name not in without}
        document["after"] = {**document["after"], "models": later, "resurfacing": {}}
    more: dict[str, Any] = {}
    if contenders:
        limit = allowed if allowed is not None else budget.epochs_of(federation.settings)
        more["methods"] = {
            name: _entry(able.get(name, settings), refused.get(name), document["models"].get(name), budget, limit)
            for name, settings in contenders.items()
        }
        more["budget"] = budget.model_dump(mode="json")
    if members:
        more["band"] = list(members)
    return document, more


def _entry(
    settings: UnlearnSettings,
    cannot: str | None,
    model: Mapping[str, Any] | None,
    budget: Budget,
    limit: float | None,
) -> dict[str, Any]:
    cost = {} if model is None else model["cost"]
    by_bytes = budget.bytes is not None
    spent = cost.get("client_epochs")
    if by_bytes and cost:
        spent = cost["bytes_up"] + cost["bytes_down"]
    own = runs_its_own_rounds(methods.get(settings.method))
    return {
        "method": settings.method,
        "kind": kind_of(settings.method),
        "settings": settings.model_dump(mode="json"),
        "cannot": cannot,
        "budget": account(limit, spent, "bytes" if by_bytes else "client_epochs", own, cost.get("rounds")),
    }


def _retraining(federation: Federation) -> UnlearnSettings:
    return settings_beside(federation.settings, {"method": "retrain"})


def _allowed_bytes(federation: Federation, ids: Sequence[str], budget: Budget) -> float | None:
    """Bytes that a contender may spend; None where they are not limited."""
    if budget.bytes is None:
        return None
    retrained = federation.run_beside(ids, "retrained", _retraining(federation))
    once, rounds = _spent(federation, retrained)
    return budget.bytes * (once + rounds)


def _within_bytes(
    federation: Federation,
    ids: Sequence[str],
    name: str,
    settings: UnlearnSettings,
    allowed: float,
    start: str | None,
) -> UnlearnSettings:
    """The settings with the rounds that fit; what a round moves is seen in a pilot of one round."""
    method = methods.get(settings.method)
    one = settings.model_copy(update={"rounds": 1})
    has_rounds = any(phase.is_round for phase in method.phases(one, federation.settings.rounds))
    if runs_its_own_rounds(method) or not has_rounds:
        return settings
    once, a_round = _spent(federation, federation.run_beside(ids, PILOT.format(name), one, start=start))
    return settings.model_copy(update={"rounds": rounds_for_bytes(allowed, once, a_round)}) if a_round else settings


def _run_within(
    federation: Federation,
    ids: Sequence[str],
    name: str,
    settings: UnlearnSettings,
    epochs: float | None,
    start: str | None,
) -> UnlearnSettings:
    """Run a contender, again with other rounds where it spent more or less epochs than it may; return what it ran with.

    Rounds are planned for the remaining clients, one local pass after another. Where targets take steps of their own,
    and all clients are targets, or where a pass is over less than a client's samples, what is spent is known only
    afterwards. No method gets more rounds than retraining has.
    """
    method, raised = methods.get(settings.method), False
    while True:
        branch = federation.run_beside(ids, name, settings, start=start)
        ledger = Session(RunFolder.open(federation.folder)).ledger
        rounds = ledger.rounds(branch.name)
        spent = cost_of(rounds, ledger.phases(branch.name), 0)["client_epochs"]
        if epochs is None or not spent or runs_its_own_rounds(method) or not rounds:
            return settings
        fitting = int(settings.rounds * epochs * (1 + ROUNDING) / spent)
        if spent <= epochs * (1 + ROUNDING):
            more = min(fitting, federation.settings.rounds)
            if raised or more <= settings.rounds:
                return settings
            raised, settings = True, settings.model_copy(update={"rounds": more})
        elif settings.rounds == 1:
            return settings
        else:
            settings = settings.model_copy(update={"rounds": max(1, min(settings.rounds - 1, fitting))})


def _spent(federation: Federation, branch: BranchRow) -> tuple[int, int]:
    """Bytes both ways of a branch: of its queries, and of its training."""
    ledger = Session(RunFolder.open(federation.folder)).ledger
    phases = ledger.phases(branch.name)
    queries = bytes_of(row.bytes for row in phases if "query" in row.name)
    steps = bytes_of(row.bytes for row in phases if "query" not in row.name)
    return queries, steps + bytes_of(row.bytes for row in ledger.rounds(branch.name))
