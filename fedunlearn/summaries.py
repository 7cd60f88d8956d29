"""What a call came to, in a few numbers."""

from __future__ import annotations

from dataclasses import dataclass

from fedunlearn.server.branches import was_served
from fedunlearn.server.ledger import MAIN
from fedunlearn.server.ledger_tables import BranchRow
from fedunlearn.server.remarks import remarks_of
from fedunlearn.server.session import Session


@dataclass(frozen=True)
class TrainingSummary:
    """What training came to: rounds finished, accuracy on the central test set, the model's digest, loss on that set.

    The accuracy is None for a task that answers with no classes.
    """

    rounds: int
    test_accuracy: float | None
    digest: str
    test_loss: float | None = None


@dataclass(frozen=True)
class UnlearningSummary:
    """What one branch came to.

    Attributes:
        requests: ids that it served, joined by "+".
        branch: its name in the ledger.
        method: what ran in the end; "retrain" where a target that was needed never answered.
        digest: of the resulting model.
        rounds: training rounds.
        seconds: wall time of its exchanges.
        test_accuracy: on the central test set; None for a task that answers with no classes.
        test_loss: mean on the same.
        served: whether it was taken into use; otherwise it is kept for comparison, and the model in use stays.
        remarks: what belongs beside the result: bounds, what they assume, and what targets told of their own steps.
    """

    requests: str
    branch: str
    method: str
    digest: str
    rounds: int
    seconds: float
    test_accuracy: float | None
    test_loss: float | None = None
    served: bool = False
    remarks: tuple[str, ...] = ()


def training_summary(session: Session) -> TrainingSummary:
    """What the ordinary training has come to so far."""
    last, main = session.ledger.last_round(MAIN), session.ledger.branch(MAIN)
    # The served model may be an unlearned one by now, which the last round says nothing about.
    measured = last is not None and main is not None and last.digest_after == main.head
    return TrainingSummary(
        rounds=last.number if last else 0,
        test_accuracy=last.metrics.get("test_accuracy") if last and measured else None,
        digest=main.head if main else "",
        test_loss=last.metrics.get("test_loss") if last and measured else None,
    )


def unlearning_summary(session: Session, branch: BranchRow) -> UnlearningSummary:
    """What a finished branch came to."""
    rounds, phases = session.ledger.rounds(branch.name), session.ledger.phases(branch.name)
    return UnlearningSummary(
        requests=str(branch.request_id),
        branch=branch.name,
        method=branch.settings["method"],
        digest=branch.head,
        rounds=len(rounds),
        seconds=sum(row.seconds for row in rounds) + sum(row.seconds for row in phases),
        test_accuracy=rounds[-1].metrics.get("test_accuracy") if rounds else None,
        test_loss=rounds[-1].metrics.get("test_loss") if rounds else None,
        served=was_served(session, branch),
        remarks=remarks_of(session, branch),
    )
