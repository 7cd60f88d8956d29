"""Membership attacks: is the forget set told from samples that no model saw?

The numbers of bins are those of the edges in the modules that measure; a test holds them together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fedunlearn.audit.metric import SHARE, UPWARDS, Later, Metric, Range, Role, Sent, Sizes, count, counts, histogram

TARGET_AND_SERVER: frozenset[Role] = frozenset({"target", "server"})
TPRS = ("tpr_at_0.1", "tpr_at_0.01", "tpr_at_0.001")
MARGIN_BINS, ENTROPY_BINS, RMIA_BINS, RATIO_BINS = 400, 301, 12 * 300, 300


def classes_of(sizes: Sizes) -> int:
    """How many classes there are."""
    return sizes.classes


def _steps(sizes: Sizes) -> int:
    from fedunlearn.audit.epsilon_score import list_length

    return list_length(sizes)


def attack(bins: int | Callable[[Sizes], int]) -> Mapping[str, Sent]:
    """What an attack by scores sends: `fedunlearn.audit.score_attack`."""
    return {"members": histogram(bins), "total": counts(classes_of), "outside": histogram(bins)}


def attack_values(name: str) -> Mapping[str, Range]:
    """What such an attack is told by: its AUC and what is read off the same curve."""
    shares = dict.fromkeys((name, *(f"{name}.{detail}" for detail in TPRS)), SHARE)
    return {**shares, f"{name}.two_sided": (0.5, 1.0), f"{name}.binning": (0.0, 0.5)}


METRICS = (
    Metric(
        "membership_auc",
        "Chance that a forgotten sample has a lower loss than an unseen one of its class, 0 to 1.",
        tier="quick",
        roles=TARGET_AND_SERVER,
        sends=attack(MARGIN_BINS),
        values=attack_values("membership_auc"),
        measure=Later("fedunlearn.audit.loss_attack", "measure"),
        combine=Later("fedunlearn.audit.loss_attack", "combine"),
    ),
    Metric(
        "entropy_attack",
        "Balanced accuracy of a logistic regression from the answer's entropy to membership, 0 to 1.",
        tier="quick",
        roles=TARGET_AND_SERVER,
        sends=attack(ENTROPY_BINS),
        values={"entropy_attack": SHARE, "entropy_attack.auc": SHARE},
        answers="classes",
        measure=Later("fedunlearn.audit.entropy_attack", "measure"),
        combine=Later("fedunlearn.audit.entropy_attack", "combine"),
    ),
    Metric(
        "rmia_auc",
        "AUC of the probability of the label relative to that in reference models (RMIA), 0 to 1.",
        tier="standard",
        roles=TARGET_AND_SERVER,
        needs={"references": 2, "before": 1},
        limits="its denominator is their mean, and its offset is tuned on the model before.",
        sends=attack(RMIA_BINS),
        values={**attack_values("rmia_auc"), "rmia_auc.offset": SHARE},
        answers="classes",
        measure=Later("fedunlearn.audit.rmia", "measure"),
        combine=Later("fedunlearn.audit.rmia", "combine"),
    ),
    Metric(
        "lira_auc",
        "AUC of the margin less its mean in reference models (offline LiRA), 0 to 1.",
        tier="standard",
        roles=TARGET_AND_SERVER,
        needs={"references": 4},
        limits="from fewer the mean of a sample's margin is mostly noise.",
        sends=attack(MARGIN_BINS),
        values=attack_values("lira_auc"),
        answers="classes",
        measure=Later("fedunlearn.audit.lira", "measure"),
        combine=Later("fedunlearn.audit.lira", "combine"),
    ),
    Metric(
        "u_lira_auc",
        "Chance that a forgotten sample looks more unlearned in this model than in a retrained one, 0 to 1.",
        tier="full",
        roles=frozenset({"target", "remaining"}),
        needs={"references": 8, "shadows": 8, "retrained": 1},
        limits="from fewer the Gaussians of the two worlds cannot be told apart.",
        sends={"unlearned": histogram(RATIO_BINS), "retrained": histogram(RATIO_BINS)},
        values={**attack_values("u_lira_auc"), "u_lira_auc.accuracy": SHARE, "u_lira_auc.retained": SHARE},
        answers="classes",
        measure=Later("fedunlearn.audit.u_lira", "measure"),
        combine=Later("fedunlearn.audit.u_lira", "combine"),
    ),
    Metric(
        "epsilon_score",
        "Forgetting quality of the 2023 challenge over N unlearned and N retrained models, 0 to 1.",
        tier="full",
        roles=frozenset({"target", "remaining", "server"}),
        needs={"references": 16, "shadows": 16},
        limits="N models of either kind show no epsilon above log(N - 1), 2.71 for 16.",
        sends={"steps": histogram(_steps), "unlearned": count(), "retrained": count()},
        values={
            "epsilon_score": SHARE,
            "epsilon_score.final": UPWARDS,
            "epsilon_score.null": SHARE,
            "epsilon_score.largest_epsilon": UPWARDS,
        },
        answers="classes",
        measure=Later("fedunlearn.audit.epsilon_score", "measure"),
        combine=Later("fedunlearn.audit.epsilon_score", "combine"),
    ),
    Metric(
        "fedmia_auc",
        "AUC of the loss among those after other clients' updates (FedMIA); in simulation only, 0 to 1.",
        tier="standard",
        roles=TARGET_AND_SERVER,
        needs={"updates": 3},
        limits="the score is measured in deviations between them, and only a simulation hands them to the target.",
        sends=attack(MARGIN_BINS),
        values=attack_values("fedmia_auc"),
        measure=Later("fedunlearn.audit.fedmia", "measure"),
        combine=Later("fedunlearn.audit.fedmia", "combine"),
    ),
)
