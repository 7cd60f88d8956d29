"""What the unlearning itself gives away: the pair of models, the model alone, the updates, the mask."""

from __future__ import annotations

from fedunlearn.audit.families.membership import TARGET_AND_SERVER, attack, attack_values
from fedunlearn.audit.metric import (
    ANY,
    SHARE,
    Later,
    Metric,
    count,
    number,
)

RISE_BINS, SHARE_BINS = 1200, 500


METRICS = (
    Metric(
        "difference_attack",
        "Chance that a forgotten sample's loss rose by more than an unseen one's of its class, 0 to 1.",
        tier="standard",
        roles=TARGET_AND_SERVER,
        needs={"before": 1},
        limits="the attacker holds both models.",
        sends=attack(RISE_BINS),
        values=attack_values("difference_attack"),
        measure=Later("fedunlearn.audit.difference_attack", "measure"),
        combine=Later("fedunlearn.audit.difference_attack", "combine"),
    ),
    Metric(
        "mask_leakage",
        "Chance that a forgotten sample hangs on the moved channels more than an unseen one of its class, 0 to 1.",
        tier="standard",
        roles=TARGET_AND_SERVER,
        needs={"before": 1},
        limits="which channels moved is seen by comparing with it.",
        sends=attack(SHARE_BINS),
        values=attack_values("mask_leakage"),
        measure=Later("fedunlearn.audit.mask_leakage", "measure"),
        combine=Later("fedunlearn.audit.mask_leakage", "combine"),
    ),
    Metric(
        "inversion",
        "Correlation of inputs painted out of the model with what sets a forgotten class apart, -1 to 1.",
        tier="full",
        roles=frozenset({"target"}),
        needs={"before": 1},
        limits="it judges what was painted.",
        sends={"classes": count(), "judged": count(), "likeness": number(), "recognised": number()},
        values={"inversion": (-1.0, 1.0), "inversion.recognised": SHARE},
        answers="classes",
        measure=Later("fedunlearn.audit.inversion", "measure"),
        combine=Later("fedunlearn.audit.inversion", "combine"),
    ),
    Metric(
        "gradient_leakage",
        "Decibels by which a sample rebuilt from a packed update is nearer to it than the mean of unseen ones.",
        better="lower",
        tier="full",
        roles=frozenset({"remaining"}),
        needs={"before": 1},
        limits="the rows that differ from it are those that an update shows.",
        sends={"samples": count(), "rebuilt": number(), "mean": number()},
        values={"gradient_leakage": ANY, "gradient_leakage.rebuilt": ANY, "gradient_leakage.mean_input": ANY},
        measure=Later("fedunlearn.audit.gradient_leakage", "measure"),
        combine=Later("fedunlearn.audit.gradient_leakage", "combine"),
    ),
)
