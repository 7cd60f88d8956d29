"""What is left inside: in the features, in how fast it is learned again, in what comes back by itself."""

from __future__ import annotations

from fedunlearn.audit.metric import SHARE, UPWARDS, Later, Metric, Range, Sizes, count, counts, sum_over, sums

CHANGE: Range = (-1.0, 1.0)
ANY_LOSS: Range = (float("-inf"), float("inf"))
DIMENSIONS, PRODUCTS = 64, 64 * 65 // 2


def _classes(sizes: Sizes) -> int:
    return sizes.classes


def _features_by_class(sizes: Sizes) -> int:
    return sizes.classes * DIMENSIONS


METRICS = (
    Metric(
        "probe",
        "Accuracy on the forgotten classes of a linear probe that is fitted on sums from all clients, 0 to 1.",
        tier="standard",
        roles=frozenset({"target", "remaining", "server"}),
        sends={
            "samples": count(several=True),
            "total": counts(_classes, each=True),
            "features": sums(_features_by_class, "samples"),
            "products": sums(PRODUCTS, "samples"),
        },
        values={"probe": SHARE, "probe.loss": UPWARDS, "probe.overall": SHARE, "probe.regained": CHANGE},
        answers="classes",
        measure=Later("fedunlearn.audit.shared_probe", "measure"),
        combine=Later("fedunlearn.audit.shared_probe", "combine"),
    ),
    Metric(
        "relearning",
        "Training steps on the forget set until its loss is the original's again, 0 upwards.",
        tier="standard",
        roles=frozenset({"target"}),
        needs={"before": 1},
        limits="it says which loss has to be reached.",
        sends={"steps": count(), "reached": count(), "epoch": count()},
        values={"relearning": UPWARDS, "relearning.passes": UPWARDS, "relearning.reached": SHARE},
        measure=Later("fedunlearn.audit.relearning", "measure"),
        combine=Later("fedunlearn.audit.relearning", "combine"),
    ),
    Metric(
        "resurfacing",
        "Rise of the accuracy on the forget set by one ordinary round without it, -1 to 1.",
        tier="standard",
        roles=frozenset({"target"}),
        needs={"updates": 1},
        limits="they are that round.",
        sends={
            "samples": count(several=True),
            "now": count(),
            "later": count(),
            "loss_now": sum_over("samples"),
            "loss_later": sum_over("samples"),
        },
        values={"resurfacing": CHANGE, "resurfacing.loss": ANY_LOSS},
        measure=Later("fedunlearn.audit.resurfacing", "measure"),
        combine=Later("fedunlearn.audit.resurfacing", "combine"),
    ),
)
