"""The metrics of a verdict in words and numbers for somebody who is not an engineer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedunlearn.audit.band_width import MINIMUM_MODELS
from fedunlearn.reports.measures import shown

Entry = Mapping[str, Any]
"""One of an audit's "primary", or its "canaries"."""


@dataclass(frozen=True)
class Wording:
    """How a metric is spoken of.

    Attributes:
        question: what it asks.
        label: its name.
        kind: how `fedunlearn.reports.measures.shown` writes it: "share", "score" or "loss".
        meaning: what it says.
    """

    question: str
    label: str
    kind: str
    meaning: str


_WORDINGS = {
    "backdoor_success": Wording(
        "Does the planted trigger still work?",
        "Back-door success",
        "share",
        "A secret trigger was planted in the data to be forgotten. This is how often it still fools the model.",
    ),
    "untriggered_loss": Wording(
        "Is the ordinary data still familiar to it?",
        "Loss on ordinary samples to be forgotten",
        "loss",
        "How surprised the model is by the ordinary part of the data to be forgotten: low when it knows it.",
    ),
    "canary_exposure": Wording(
        "Does it still know the planted wrong labels?",
        "Canary exposure",
        "score",
        "Samples were given random wrong labels on purpose. 1: learned by heart; 0.5: chance, never seen.",
    ),
    "forget_loss": Wording(
        "Is the data still familiar to it?",
        "Loss on the data to be forgotten",
        "loss",
        "How surprised the model is by the data to be forgotten: low when it knows it.",
    ),
    "forgotten_classes_loss": Wording(
        "Is the forgotten class still familiar to it?",
        "Loss on the forgotten classes",
        "loss",
        "How surprised the model is by new samples of the forgotten classes. Far above retrained: pushed away.",
    ),
    "class_detection": Wording(
        "Is the class only hidden?",
        "Detection of the forgotten classes",
        "score",
        "Whether the model's inner scores still set samples of the class apart, even if it never says so. 0.5: chance.",
    ),
    "class_direction": Wording(
        "Do its inner features still know the class?",
        "Direction of the forgotten classes",
        "loss",
        "How far the model's inner features set the class apart from the others. High: only the answer was cut off.",
    ),
    "test_accuracy": Wording(
        "Is it still as good at its job?",
        "Test accuracy",
        "share",
        "How often the model is right on data that nobody trained on.",
    ),
    "kept_classes_accuracy": Wording(
        "Is it still as good at the classes that stay?",
        "Accuracy on kept classes",
        "share",
        "How often the model is right on unseen data of the classes that were not to be forgotten.",
    ),
}

OUTCOMES = {
    "pass": ("good", "✓", "as retrained"),
    "fail": ("bad", "✗", "not as retrained"),
    "open": ("fair", "?", "undecided"),
    "inconclusive": ("fair", "?", "undecided"),
    "uninformative": ("fair", "–", "cannot tell"),
}
"""Outcome of a metric -> tone of the page, sign, words."""


def wording(entry: Entry) -> Wording:
    """How the metric of an entry is spoken of; a metric that is not known here by its own name."""
    name = str(entry.get("metric"))
    label = name.replace("_", " ").capitalize()
    kind = "loss" if entry.get("transform") == "log" else "share"
    return _WORDINGS.get(name) or Wording(label, label, kind, "")


def number(entry: Entry, value: float | None) -> str:
    """A value of the metric; finer than elsewhere, because what counts are small differences."""
    kind = wording(entry).kind
    if value is None or kind == "share":
        return shown(value, "share")
    if value >= 100:
        return f"{value:,.0f}" if value < 1e6 else f"{value:.0e}"
    return f"{value:.3f}" if value >= 0.001 or value == 0 else f"{value:.2g}"


def between(entry: Entry) -> str:
    """Where one more retrained model would lie; an en dash where fewer than two are known."""
    interval = entry.get("interval")
    return "–" if interval is None else f"{number(entry, interval[0])} to {number(entry, interval[1])}"


def retrained_mean(entry: Entry) -> float | None:
    """The plain mean of the retrained models, or of chance for canaries that are judged alone."""
    values = entry.get("retrained")
    if values is None:
        mean: float | None = entry.get("mean")
        return mean
    return sum(values) / len(values) if values else None


def outcome_of(entry: Entry) -> str:
    """The outcome of a primary metric, or of canaries that are judged alone.

    Too few retrained models pass nothing, which the verdict says for all metrics at once: "open" here.
    """
    outcome = str(entry.get("outcome") or entry.get("verdict"))
    few = not entry.get("alone") and len(entry["retrained"]) < MINIMUM_MODELS
    return "open" if few and outcome == "pass" else outcome


def judged_entries(audit: Mapping[str, Any]) -> list[Entry]:
    """What an audit's verdict rests on, in order: its primary metrics, and canaries that are judged alone."""
    canaries = audit.get("canaries")
    alone = [{**canaries, "alone": True}] if canaries and audit.get("rests_on") == "canaries" else []
    return [*alone, *audit.get("primary", ())]
