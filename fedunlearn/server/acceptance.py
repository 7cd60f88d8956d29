"""Whether an unlearned model may be served: no class that stays may fall further than the request explains.

What a target sends decides which channels are reset, and in some methods their values. A lying one could aim at a
class; those who stay would notice it on their unseen samples, and are asked before the model is accepted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from flwr.serverapp import Grid

from fedunlearn.audit.harm import ClassHarm, harmful_classes
from fedunlearn.errors import RequestError
from fedunlearn.server.branches import base_digest, classes_of, mask_of
from fedunlearn.server.examiner import Examiner
from fedunlearn.server.ledger_tables import BranchRow, RequestRow
from fedunlearn.server.session import Session
from fedunlearn.strategies import methods
from fedunlearn.strategies.asked import trains_in_full
from fedunlearn.strategies.roster import Roster
from fedunlearn.strategies.serving import Job

LEARNED = 0.8
"""A model that answers fewer of the unseen samples is still moving: its classes come and go with every round, and one
that falls tells nothing of who harmed it."""
REFUSED = "unlearned-model-refused"
"""The event of an unlearned model that is not served because it harms a class that stays."""


class HarmfulModel(RequestError):
    """An unlearned model answers a class that stays much worse than the model before."""


def check_acceptable(
    grid: Grid, session: Session, roster: Roster, job: Job, rows: Sequence[RequestRow], branch: BranchRow
) -> None:
    """Raise HarmfulModel, and write an event, when `branch` harms a class that the requests do not name.

    Those who did not ask count right answers on what they hold out, for the model before and for this one. A model that
    has not learned enough (LEARNED) is not held to the bound. Only when
    a class fell beyond the setting `class_harm` is it asked how much of it was forgotten. Retraining is what all
    others are measured against and takes nothing from a target: it is not asked.

    Where nothing is answered right or wrong, their loss is compared: of what the model before has learned, the loss of
    a fresh model less its own, no more than the share `class_harm` may be lost.
    """
    limit = session.settings.class_harm
    if limit >= 1 or trains_in_full(methods.get(branch.settings["method"])):
        return
    base = session.models.load(base_digest(session, job))
    examiner = Examiner(session, grid, roster, base)
    before = examiner.on_unseen(base, job)
    after = examiner.on_unseen(session.models.load(branch.head), job, mask_of(session, branch))
    if before is None or after is None:
        return
    if before.accuracy is None:
        _check_loss(session, examiner, job, branch, before.loss, after.loss)
        return
    if before.accuracy < LEARNED:
        return
    forgotten = classes_of(rows) or ()
    found = harmful_classes(before.by_class, after.by_class, after.per_class_count, forgotten, limit)
    if found:
        shares = forgotten_shares(*examiner.class_counts(job), sum(row.count for row in rows))
        found = harmful_classes(before.by_class, after.by_class, after.per_class_count, forgotten, limit, shares)
    if not found:
        return
    names = session.dataset.classes
    classes = {
        names[one.label]: {"before": one.before, "after": one.after, "allowed": one.allowed, "samples": one.samples}
        for one in found
    }
    _refuse(session, job, branch, _sentence(found, names), {"classes": classes})


def _check_loss(
    session: Session, examiner: Examiner, job: Job, branch: BranchRow, before: float | None, after: float | None
) -> None:
    """Refuse a model that has lost more of what was learned than it may; losses that were withheld refuse nothing."""
    untrained = examiner.on_unseen(session.fresh(session.settings.seed), job)
    if before is None or after is None or untrained is None or untrained.loss is None or untrained.loss <= before:
        return
    lost = (after - before) / (untrained.loss - before)
    if lost <= session.settings.class_harm:
        return
    why = (
        f"the unlearned model is not accepted, because its loss on the other clients' unseen samples rose from "
        f"{before:.3g} to {after:.3g}, which is {lost:.0%} of what the model before had learned (at most "
        f"{session.settings.class_harm:.0%}); the model before is served on and the forgotten samples stay out: try "
        "another method, or retrain."
    )
    _refuse(session, job, branch, why, {"loss": {"before": before, "after": after, "untrained": untrained.loss}})


def _refuse(session: Session, job: Job, branch: BranchRow, why: str, found: Mapping[str, Any]) -> NoReturn:
    """Write the event, once, and raise HarmfulModel."""
    detail = {"branch": branch.name, "model": branch.head, "why": why, **found}
    # A request that failed is tried again with every round of training.
    if detail not in [dict(event.detail) for event in session.ledger.events(REFUSED)]:
        session.ledger.append_event(REFUSED, detail, "+".join(job.requests))
    raise HarmfulModel(why)


def forgotten_shares(forgotten: Sequence[int], retained: Sequence[int], announced: int) -> list[float]:
    """Of the samples of each class the share that is forgotten, 0 to 1, K.

    Args:
        forgotten: what the targets say, class by class; where it adds up to more than they announced with their
            requests, it is cut back in proportion.
        retained: what all others say.
        announced: number of samples in the requests, as signed.
    """
    said = sum(forgotten)
    believed = min(1.0, announced / said) if said else 0.0
    return [
        believed * gone / (believed * gone + kept) if believed * gone > 0 else 0.0
        for gone, kept in zip(forgotten, retained, strict=True)
    ]


def _sentence(found: Sequence[ClassHarm], names: Sequence[str]) -> str:
    falls = ", ".join(
        f"{names[one.label]} from {one.before:.2f} to {one.after:.2f} (at most {one.allowed:.2f} lower)"
        for one in found
    )
    return (
        f"the unlearned model is not accepted, because classes that stay fell too far on the other clients' unseen "
        f"samples: {falls}; the model before is served on and the forgotten samples stay out: try another method, "
        f"or retrain."
    )
