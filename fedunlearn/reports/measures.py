"""The numbers that a report shows: where they stand in the document, how they read, what they mean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fedunlearn.reports.document import Model, value

PARTS = {
    "all": ("Forget set", "the samples that are to be forgotten"),
    "triggered": (
        "Triggered",
        "the samples to be forgotten that carry the planted trigger and a wrong label",
    ),
    "untriggered": (
        "Untriggered",
        "the samples to be forgotten that carry no trigger, the owner's ordinary data",
    ),
    "canaries": ("Canaries", "the samples to be forgotten that were given a random wrong label on purpose"),
}
"""Part of the forget set -> its name for people, and what is in it."""
KNOWN_OF_PARTS = ("accuracy", "loss", "psnr")


@dataclass(frozen=True)
class Measure:
    """One reported number.

    Attributes:
        key: dotted place in a model's entry; also its column in the CSV.
        label: its name for people, short enough for a terminal.
        kind: "share" (0 to 1, shown in percent), "score" (0 to 1), "loss", "decibels", "count", "bytes", "operations"
            or "seconds".
        role: "ability" (is to stay), "memory" (shows what is remembered) or "cost".
        meaning: what it says, for somebody who is not an engineer.
        tolerance: difference to the retrained model that passes for none.
        informative: least difference between original and retrained at which it can tell anything.
    """

    key: str
    label: str
    kind: str
    role: str
    meaning: str
    tolerance: float = 0.0
    informative: float = 0.0


def _ability(key: str, label: str, meaning: str) -> Measure:
    return Measure(key, label, "share", "ability", meaning, tolerance=0.02, informative=0.05)


def _quality(key: str, label: str, role: str, meaning: str) -> Measure:
    return Measure(key, label, "decibels", role, meaning, tolerance=0.3, informative=0.5)


def _cost(key: str, label: str, kind: str, meaning: str) -> Measure:
    return Measure(f"cost.{key}", label, kind, "cost", meaning)


def _part(part: str) -> tuple[Measure, Measure, Measure]:
    label, what = PARTS[part]
    accuracy = (
        f"How often the model still gives the recorded answer on {what}. It should come to the retrained "
        "model's value, not to zero: a model that never saw a sample can still be right about it."
    )
    loss = (
        f"How surprised the model is by {what}: near 0 when it knows them by heart, larger when it does not. "
        "The finest sign of memory in the table."
    )
    quality = (
        f"How well the model brings back {what}: peak signal-to-noise ratio of what it paints. It should come to the "
        "retrained model's value, not to nothing: a model paints images quite well that it never saw."
    )
    return (
        Measure(f"forget.{part}.accuracy", f"{label}: accuracy", "share", "memory", accuracy, 0.03, 0.05),
        Measure(f"forget.{part}.loss", f"{label}: loss", "loss", "memory", loss, 0.03, 0.05),
        _quality(f"forget.{part}.psnr", f"{label}: PSNR", "memory", quality),
    )


MEASURES: tuple[Measure, ...] = (
    _ability(
        "test_accuracy",
        "Test accuracy",
        "How often the model is right on data that nobody trained on: what it can do. It should not fall "
        "below the retrained model's.",
    ),
    _ability(
        "retain_accuracy",
        "Retain accuracy",
        "How often the model is right on the training data of everybody who stays.",
    ),
    _quality(
        "test_psnr",
        "Test PSNR",
        "ability",
        "How well the model completes images that nobody trained on: peak signal-to-noise ratio of what it paints, in "
        "decibels; 3 more are half the squared error. It should not fall below the retrained model's.",
    ),
    _quality(
        "retain_psnr",
        "Retain PSNR",
        "ability",
        "How well the model completes the training images of everybody who stays, in decibels.",
    ),
    Measure(
        "images.retain_ssim",
        "Retain similarity",
        "score",
        "ability",
        "How alike the completed training images of everybody who stays are to the true ones (SSIM): 1 is the same.",
        0.02,
        0.05,
    ),
    Measure(
        "images.unseen_ssim",
        "Test similarity",
        "score",
        "ability",
        "The same for images that nobody trained on.",
        0.02,
        0.05,
    ),
    Measure(
        "forgotten_classes_accuracy",
        "Classes concerned",
        "share",
        "memory",
        "How often the model is right on unseen data of the classes that the request is about.",
        0.03,
        0.05,
    ),
    *(measure for part in PARTS for measure in _part(part)),
    Measure(
        "images.forget_ssim",
        "Forget set: similarity",
        "score",
        "memory",
        "How alike the completed images of the forget set are to the true ones (SSIM). It should come to the retrained "
        "model's value.",
        0.02,
        0.05,
    ),
    Measure(
        "images.out_of_distribution",
        "Out of distribution",
        "share",
        "memory",
        "For how much of the forget set the model's answer is farther from the original's than that model is usually "
        "wrong. A retrained model has a share of its own, and that is the value to come to.",
        0.05,
        0.1,
    ),
    Measure(
        "images.attack",
        "Attack by error",
        "score",
        "memory",
        "An attacker guesses from how well an image is completed whether it is from the forgotten data or new: 0.5 is "
        "guessing blindly; what counts is the retrained model's value.",
        0.03,
        0.04,
    ),
    Measure(
        "images.proxy_distance",
        "Proxy distance",
        "loss",
        "ability",
        "How far completed images are from true ones in the eyes of a small classifier of the same data: a proxy for "
        "FID, to be compared within this table only.",
        0.05,
        0.1,
    ),
    Measure(
        "backdoor_success",
        "Back-door success",
        "share",
        "memory",
        "A secret trigger (a small square) was planted in the data to be forgotten. This is how often the "
        "trigger still fools the model, or makes it paint the pattern that was taught with it. When the data is "
        "forgotten, the trigger stops working.",
        0.03,
        0.1,
    ),
    Measure(
        "canary_exposure",
        "Canary exposure",
        "score",
        "memory",
        "Some samples were given random wrong labels on purpose. This is how strongly the model still "
        "prefers those wrong labels to other wrong ones: 1 means learned by heart, 0.5 is chance.",
        0.05,
        0.1,
    ),
    Measure(
        "membership_auc",
        "Membership attack",
        "score",
        "memory",
        "An attacker guesses from the model's losses whether a sample is from the forgotten data or new "
        "(area under the curve): 0.5 is guessing blindly. What counts is the retrained model's value: far "
        "below it is as telling as far above.",
        0.03,
        0.04,
    ),
    Measure(
        "membership_accuracy",
        "Membership regression",
        "share",
        "memory",
        "How often a logistic regression on the losses tells forgotten samples from new ones: half of the time is "
        "guessing blindly. What counts is the retrained model's value.",
        0.03,
        0.04,
    ),
    Measure(
        "probe_accuracy",
        "Linear probe",
        "share",
        "memory",
        "How well the model's inner features tell the data apart when only a new last layer is trained on "
        "them. It finds knowledge that was merely cut off from the answer.",
        0.05,
        0.05,
    ),
    Measure(
        "relearn_steps",
        "Steps to relearn",
        "count",
        "memory",
        "How many training steps bring the forgotten data back. Far fewer than for the retrained model "
        "means that something was left behind.",
        1.0,
        3.0,
    ),
    _cost("rounds", "Rounds", "count", "Rounds of messages between server and clients after the request."),
    _cost(
        "client_epochs",
        "Client epochs",
        "count",
        "How many times a client that took part went through its data after the request, on average.",
    ),
    _cost("active_clients", "Clients asked", "count", "How many clients took part after the request."),
    _cost(
        "client_flops",
        "Computed by clients",
        "operations",
        "Multiplications and additions that clients made after the request.",
    ),
    _cost(
        "server_flops",
        "Computed by the server",
        "operations",
        "Multiplications and additions that the server made to put the clients' answers together.",
    ),
    _cost("bytes_up", "Sent by clients", "bytes", "Data that clients sent to the server after the request."),
    _cost("bytes_down", "Sent to clients", "bytes", "Data that the server sent to clients after the request."),
    _cost(
        "bytes_with_base",
        "… with base model",
        "bytes",
        "All that would be sent if no client had the model to begin with.",
    ),
    _cost("stored_bytes", "Kept by the server", "bytes", "Models and the rest that the server keeps of the rounds."),
    _cost("seconds", "Time", "seconds", "Time on the clock after the request."),
    _cost("attribution_seconds", "… for attribution", "seconds", "Part of it that finding the channels took."),
)


def present(models: Iterable[Model], role: str | None = None) -> list[Measure]:
    """The measures that a model has at least; the forget set as a whole only where it has no parts."""
    entries = list(models)

    def known(key: str) -> bool:
        return any(value(entry, key) is not None for entry in entries)

    in_parts = any(known(f"forget.{part}.{what}") for part in PARTS if part != "all" for what in KNOWN_OF_PARTS)
    return [
        measure
        for measure in MEASURES
        if (role is None or measure.role == role)
        and known(measure.key)
        and not (in_parts and measure.key.startswith("forget.all."))
    ]


def shown(number: float | None, kind: str) -> str:
    """A number for people; an en dash where there is none."""
    if number is None:
        return "–"
    if kind == "share":
        return f"{100 * number:.1f}%"
    if kind == "bytes":
        return shown_bytes(number)
    if kind == "operations":
        return shown_operations(number)
    if kind == "decibels":
        return f"{number:.2f} dB"
    if kind == "seconds":
        return f"{number:.1f} s" if number < 100 else f"{number / 60:.1f} min"
    if kind == "count":
        return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.1f}"
    # A model that diverged has losses of thirty digits.
    return f"{number:.3f}" if abs(number) < 1e6 else f"{number:.1e}"


def shown_gap(gap: float | None, kind: str) -> str:
    """A signed difference for people, in percentage points for shares; empty where there is none."""
    if gap is None:
        return ""
    text = f"{100 * gap:+.1f}" if kind == "share" else f"{gap:+.3f}"
    return text.replace("-", "−")


def shown_operations(number: float) -> str:
    """A number of floating-point operations in the unit that leaves one to three digits before the point."""
    for power, unit in ((12, "TFLOP"), (9, "GFLOP"), (6, "MFLOP"), (3, "kFLOP")):
        if number >= 10**power:
            return f"{number / 10**power:.3g} {unit}"
    return f"{number:.0f} FLOP"


def shown_bytes(number: float) -> str:
    """Bytes in decimal units."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} GB"
