"""A comparison as a small back-door experiment gives it, and an audit of it, judged by the verdict itself."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedunlearn.audit.canary_verdict import judge_canaries
from fedunlearn.audit.measured import Measured
from fedunlearn.audit.verdict_document import find
from fedunlearn.reports.write import write_report

CLASSES = [str(digit) for digit in range(10)]


def model(
    test: float,
    backdoor: float,
    triggered: tuple[float, float],
    untriggered: tuple[float, float],
    auc: float,
    rounds: int,
    epochs: float,
    megabytes: float,
    seconds: float,
) -> dict[str, Any]:
    """One model's entry of the document."""
    spread = random.Random(int(test * 1e6))
    half = int(megabytes * 5e5)
    return {
        "test_accuracy": test,
        "test_accuracy_by_class": {name: min(1.0, test + spread.uniform(-0.04, 0.04)) for name in CLASSES},
        "retain_accuracy": min(0.999, test + 0.02),
        "forget": {
            "all": None,
            "triggered": {"accuracy": triggered[0], "loss": triggered[1], "count": 411},
            "untriggered": {"accuracy": untriggered[0], "loss": untriggered[1], "count": 103},
            "canaries": None,
        },
        "forgotten_classes_accuracy": None,
        "backdoor_success": backdoor,
        "canary_exposure": None,
        "membership_auc": auc,
        "cost": {
            "rounds": rounds,
            "client_epochs": epochs,
            "bytes_up": half,
            "bytes_down": half,
            "bytes_with_base": 2 * half + 2_200_000,
            "seconds": seconds,
        },
    }


def curve(rounds: int, first: float, last: float, speed: float = 0.6) -> list[float]:
    """A value that goes from `first` towards `last`, faster at the start."""
    return [last + (first - last) * math.exp(-speed * step) for step in range(rounds)]


def branch(rounds: int, test: tuple[float, float], loss: tuple[float, float], backdoor: tuple[float, float]) -> Any:
    """A branch's rounds, from the first to the last value of each metric."""
    series = zip(curve(rounds, *test), curve(rounds, *loss), curve(rounds, *backdoor), strict=True)
    return [
        {"round": number, "test_accuracy": a, "forget_loss": b, "backdoor_success": c}
        for number, (a, b, c) in enumerate(series, start=1)
    ]


def attribution(channels: int, seed: int, share: float) -> dict[str, Any]:
    """A layer in which a few channels matter far more to the forget set than to the others."""
    draw = random.Random(seed)
    reference = [draw.expovariate(1.0) for _ in range(channels)]
    forget = [score * draw.uniform(0.5, 1.1) for score in reference]
    selected = sorted(draw.sample(range(channels - 1), max(1, int(share * channels))))
    for index in selected:
        forget[index] += draw.uniform(1.5, 5.0)
    reference[-1] = forget[-1] = 0.0
    return {"forget": forget, "reference": reference, "selected": selected}


def backdoor_document(controls: bool = True) -> dict[str, Any]:
    """A back-door client leaves: the numbers are made up in the size of the pilot's."""
    models = {
        "original": model(0.945, 0.884, (0.99, 0.05), (0.981, 0.043), 0.62, 15, 0, 0, 0),
        "unlearned": model(0.941, 0.012, (0.14, 6.3), (0.955, 0.128), 0.53, 3, 3, 0.39, 4.2),
        "retrained": model(0.948, 0.000, (0.12, 6.9), (0.947, 0.160), 0.51, 15, 30, 8.9, 31.0),
        "fine-tuned": model(0.957, 0.861, (0.92, 0.31), (0.979, 0.071), 0.60, 3, 3, 1.78, 3.9),
        "retrained-same-budget": model(0.861, 0.002, (0.15, 4.1), (0.842, 0.520), 0.50, 3, 3, 1.78, 3.8),
    }
    rounds = {
        "original": branch(15, (0.42, 0.945), (1.9, 0.05), (0.03, 0.884)),
        "unlearned": branch(3, (0.88, 0.941), (4.0, 5.2), (0.05, 0.012)),
        "retrained": branch(15, (0.40, 0.948), (3.0, 5.5), (0.02, 0.000)),
        "fine-tuned": branch(3, (0.950, 0.957), (0.10, 0.26), (0.88, 0.861)),
        "retrained-same-budget": branch(3, (0.42, 0.861), (3.0, 3.5), (0.02, 0.002)),
    }
    if controls:
        models |= {
            "random-channels": model(0.924, 0.174, (0.46, 2.1), (0.94, 0.17), 0.55, 3, 3, 0.39, 4.0),
            "least-important-channels": model(0.939, 0.803, (0.90, 0.4), (0.97, 0.06), 0.60, 3, 3, 0.39, 4.0),
            "trigger-scrubbing": model(0.940, 0.000, (0.30, 2.9), (0.98, 0.05), 0.60, 3, 3, 1.78, 4.1),
            "zeroed-output-unit": model(0.853, 0.000, (0.02, 14.0), (0.87, 1.9), 0.41, 0, 0, 0.0, 0.1),
        }
        rounds |= {
            "random-channels": branch(3, (0.85, 0.924), (1.0, 1.7), (0.3, 0.174)),
            "trigger-scrubbing": branch(3, (0.93, 0.940), (1.9, 2.3), (0.02, 0.0)),
        }
    return {
        "run": {
            "task": "mnist5k",
            "clients": 10,
            "partition": "dirichlet:1.0",
            "rounds": 15,
            "local_epochs": 2,
            "learning_rate": 0.02,
            "seed": 0,
            "network": None,
            "backdoor": "client=0,share=0.8,target=0",
        },
        "request": {"id": "7c1f", "scope": "client", "clients": [0], "classes": None, "count": 514},
        "method": {
            "name": "selective-channels",
            "ratio": 0.21,
            "selected": {"features.0": "4/16", "features.3": "9/32", "classifier.0": "12/64"},
            "attribution_seconds": 0.9,
        },
        "models": models,
        "rounds": rounds,
        "attribution": {
            "features.0": attribution(16, 1, 0.25),
            "features.3": attribution(32, 2, 0.28),
            "classifier.0": attribution(64, 3, 0.19),
        },
        "after": {
            "5": {
                "unlearned": model(0.950, 0.010, (0.13, 6.6), (0.96, 0.12), 0.53, 8, 13, 3.2, 14.0),
                "retrained": model(0.951, 0.000, (0.12, 7.0), (0.95, 0.165), 0.51, 20, 40, 11.9, 42.0),
            }
        },
        "void": None,
    }


@pytest.fixture(scope="session")
def comparison() -> dict[str, Any]:
    """To be read only."""
    return backdoor_document()


@pytest.fixture
def document() -> dict[str, Any]:
    return backdoor_document()


@pytest.fixture(scope="session")
def report(comparison: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """The files of one written report, the page first; to be read only."""
    return write_report(comparison, tmp_path_factory.mktemp("report") / "new" / "folder")


BEFORE, AFTER = "a" * 64, "b" * 64


def around(centre: float, spread: float, models: int, seed: int = 0) -> tuple[float, ...]:
    """Values of retrained models."""
    draw = random.Random(seed)
    return tuple(min(1.0, max(0.0, draw.gauss(centre, spread))) if centre < 1 else draw.gauss(centre, spread)
                 for _ in range(models))  # fmt: skip


def audit_document(
    backdoor: float = 0.012,
    loss: float = 0.16,
    accuracy: float = 0.948,
    models: int = 8,
    canaries: float | None = None,
    request: str = "client-0-1",
    **more: Any,
) -> dict[str, Any]:
    """An audit of a back-door client: the unlearned model's values, judged against a band of so many."""
    measured = [
        Measured("backdoor_success", "removal", "logit", 0.884, backdoor, around(0.012, 0.003, models, 1), 900),
        Measured("untriggered_loss", "removal", "log", 0.043, loss, around(0.16, 0.006, models, 2)),
        Measured("test_accuracy", "utility", "logit", 0.945, accuracy, around(0.948, 0.003, models, 3), 1000),
    ]
    judged = None if canaries is None else judge_canaries(0.93, canaries, 120, 10)
    found = find(measured, judged)
    return {
        "request": request,
        "scope": "client",
        "original": BEFORE,
        "unlearned": AFTER,
        **found.document(),
        "left_out": {},
        "clients": [0],
        "classes": None,
        "tier": "standard",
        "created": "2026-01-02T03:04:05.678+00:00",
        "method": {"method": "selective-channels", "rounds": 3},
        "band": {"key": "k", "size": models, "seeds": [], "digests": [], "rounds": 15, "without": [request]},
        "earlier": [],
        "accuracy": {"before": 0.945, "unlearned": accuracy, "retrained": 0.948, "lost": 0.945 - accuracy},
        "described": {
            "membership_auc": {"original": 0.62, "unlearned": 0.53, "retrained": [0.51, 0.52], "refused": ""},
            "lira_auc": {"original": None, "unlearned": None, "retrained": [None], "refused": "too few references."},
        },
        "seconds": {"band": 10.0, "measuring": 1.0},
        "restored": None,
        **more,
    }


@pytest.fixture
def make_audit() -> Callable[..., dict[str, Any]]:
    """Makes audit documents: see `audit_document`."""
    return audit_document
