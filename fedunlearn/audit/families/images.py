"""Tasks that answer with images: how well they are completed, what is out of distribution, what is told apart."""

from __future__ import annotations

from fedunlearn.audit.metric import (
    ANY,
    SHARE,
    UPWARDS,
    Later,
    Metric,
    Range,
    Role,
    Sizes,
    count,
    counts,
    histogram,
    sum_over,
)

ERROR_BINS = 512
SIMILARITY: Range = (-1.0, 1.0)
DECIBELS: Range = (0.0, 100.0)
EVERYBODY: frozenset[Role] = frozenset({"target", "remaining", "server"})
_RANGES: dict[str, Range] = {"mse": SHARE, "psnr": DECIBELS, "ssim": SIMILARITY}
_SUMS = {"samples": count(several=True), "square-sum": sum_over("samples"), "similarity-sum": sum_over("samples")}


def _classes(sizes: Sizes) -> int:
    return sizes.classes


METRICS = (
    Metric(
        "reconstruction",
        "Mean squared error of the forget set's completed images, 0 to 1; also PSNR and SSIM, and of other images.",
        tier="quick",
        roles=EVERYBODY,
        sends=_SUMS,
        values={
            "reconstruction": SHARE,
            **{f"reconstruction.{g}_{f}": r for g in ("forget", "retain", "unseen") for f, r in _RANGES.items()},
        },
        answers="images",
        measure=Later("fedunlearn.audit.reconstruction", "measure"),
        combine=Later("fedunlearn.audit.reconstruction", "combine"),
    ),
    Metric(
        "reconstruction_gap",
        "Mean distance of forgotten, retained and unseen images' PSNR from a retrained model's, in decibels.",
        better="lower",
        tier="quick",
        roles=EVERYBODY,
        needs={"retrained": 1},
        limits="a gap is measured against it.",
        sends={
            **_SUMS,
            "retrained-samples": count(several=True),
            "retrained-square-sum": sum_over("retrained-samples"),
            "retrained-similarity-sum": sum_over("retrained-samples"),
        },
        values={
            "reconstruction_gap": UPWARDS,
            **{f"reconstruction_gap.{g}_{f}": ANY for g in ("forget", "retain", "unseen") for f in ("psnr", "ssim")},
        },
        answers="images",
        measure=Later("fedunlearn.audit.reconstruction", "measure_both"),
        combine=Later("fedunlearn.audit.reconstruction", "combine_both"),
    ),
    Metric(
        "out_of_distribution",
        "Share of the forget set answered farther from the original's answers than its usual error, 0 to 1.",
        tier="quick",
        roles=frozenset({"target", "remaining"}),
        needs={"before": 1},
        limits="answers are compared with its own.",
        sends={"displacements": histogram(ERROR_BINS), "errors": histogram(ERROR_BINS)},
        values={
            "out_of_distribution": SHARE,
            "out_of_distribution.threshold": UPWARDS,
            "out_of_distribution.displacement": UPWARDS,
        },
        answers="images",
        measure=Later("fedunlearn.audit.out_of_distribution", "measure"),
        combine=Later("fedunlearn.audit.out_of_distribution", "combine"),
    ),
    Metric(
        "reconstruction_attack",
        "Chance that a forgotten image is completed better than an unseen one of its class, 0 to 1.",
        tier="quick",
        roles=frozenset({"target", "server"}),
        sends={"members": histogram(ERROR_BINS), "total": counts(_classes), "outside": histogram(ERROR_BINS)},
        values={
            **dict.fromkeys(
                ("reconstruction_attack", *(f"reconstruction_attack.tpr_at_{r}" for r in ("0.1", "0.01", "0.001"))),
                SHARE,
            ),
            "reconstruction_attack.two_sided": (0.5, 1.0),
            "reconstruction_attack.binning": (0.0, 0.5),
        },
        answers="images",
        measure=Later("fedunlearn.audit.reconstruction_attack", "measure"),
        combine=Later("fedunlearn.audit.reconstruction_attack", "combine"),
    ),
    Metric(
        "proxy_quality",
        "Frechet distance of unseen images' features in a small classifier's eyes: a proxy for FID, 0 upwards.",
        tier="standard",
        roles=frozenset({"server"}),
        values={
            "proxy_quality": UPWARDS,
            "proxy_quality.inception_score": (1.0, float("inf")),
            "proxy_quality.cosine": SIMILARITY,
        },
        answers="images",
        measure=Later("fedunlearn.audit.proxy_quality", "measure"),
        combine=Later("fedunlearn.audit.proxy_quality", "combine"),
    ),
    # By name only: it wants packages and weights that few machines have.
    Metric(
        "pretrained_quality",
        "FID of unseen completed images, 0 upwards; also inception score and CLIP cosine, where their networks are.",
        roles=frozenset({"server"}),
        values={
            "pretrained_quality": UPWARDS,
            "pretrained_quality.inception_score": (1.0, float("inf")),
            "pretrained_quality.clip": SIMILARITY,
        },
        answers="images",
        measure=Later("fedunlearn.audit.pretrained_quality", "measure"),
        combine=Later("fedunlearn.audit.pretrained_quality", "combine"),
    ),
)
