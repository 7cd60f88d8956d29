"""What unlearning did to those who stay, and how far the model is from a retrained one."""

from __future__ import annotations

from fedunlearn.audit.metric import ANY, SHARE, UPWARDS, Later, Metric, Range, Sizes, count, counts, number, sum_over

CHANGE: Range = (-1.0, 1.0)


def _classes(sizes: Sizes) -> int:
    return sizes.classes


METRICS = (
    Metric(
        "harm",
        "Mean change of the remaining clients' accuracy on unseen samples, -1 to 1.",
        tier="quick",
        roles=frozenset({"remaining"}),
        needs={"before": 1},
        limits="a change is measured against it.",
        sends={
            "before": counts(_classes),
            "after": counts(_classes),
            "total": counts(_classes),
            "samples": count(several=True),
            "loss_before": sum_over("samples"),
            "loss_after": sum_over("samples"),
        },
        values={
            "harm": CHANGE,
            "harm.worst": CHANGE,
            "harm.worst_tenth": CHANGE,
            "harm.spread": SHARE,
            "harm.clients_harmed": UPWARDS,
            "harm.accuracy_mean": SHARE,
            "harm.accuracy_worst": SHARE,
            "harm.accuracy_worst_tenth": SHARE,
            "harm.classes_harmed": UPWARDS,
            "harm.loss": ANY,
            "harm.loss_worst": ANY,
        },
        measure=Later("fedunlearn.audit.harm", "measure"),
        combine=Later("fedunlearn.audit.harm", "combine"),
    ),
    Metric(
        "retrain_gap",
        "Mean distance of the accuracies from a retrained model's, 0 to 1; beside it each gap with its sign.",
        better="lower",
        tier="quick",
        roles=frozenset({"target", "remaining", "server"}),
        needs={"retrained": 1},
        limits="a gap is measured against it.",
        sends={"model": count(), "retrained": count(), "total": count()},
        values={
            "retrain_gap": SHARE,
            "retrain_gap.forget_accuracy": CHANGE,
            "retrain_gap.retain_accuracy": CHANGE,
            "retrain_gap.test_accuracy": CHANGE,
            "retrain_gap.tug_of_war": SHARE,
        },
        answers="classes",
        measure=Later("fedunlearn.audit.retrain_gap", "measure"),
        combine=Later("fedunlearn.audit.retrain_gap", "combine"),
    ),
    Metric(
        "agreement",
        "Share of the forget set that the model and a retrained one answer alike (completeness), 0 to 1.",
        tier="quick",
        roles=frozenset({"target", "server"}),
        needs={"retrained": 1},
        limits="it is what the answers are compared with.",
        sends={
            "samples": count(several=True),
            "distance-sum": sum_over("samples"),
            "divergence-sum": sum_over("samples"),
            "agreed": count(),
        },
        values={
            "agreement": SHARE,
            "agreement.activation_distance": (0.0, 2**0.5),
            "agreement.divergence": (0.0, 0.6931471805599454),
            "agreement.on_test_set": SHARE,
        },
        answers="classes",
        measure=Later("fedunlearn.audit.agreement", "measure"),
        combine=Later("fedunlearn.audit.agreement", "combine_findings"),
    ),
    Metric(
        "weight_distance",
        "Distance in weights to retrained models over their distance from each other, 0 upwards; theirs is about 1.",
        tier="standard",
        roles=frozenset({"server"}),
        needs={"references": 2},
        limits="without their distance from each other the figure has no scale.",
        sends={"overall": number(), "between": number()},
        values={
            "weight_distance": UPWARDS,
            "weight_distance.overall": UPWARDS,
            "weight_distance.between_retrained": UPWARDS,
        },
        measure=Later("fedunlearn.audit.weight_distance", "measure"),
        combine=Later("fedunlearn.audit.weight_distance", "combine"),
    ),
)
