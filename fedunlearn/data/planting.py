"""What is planted in a client's training data to prove later that it is gone: a back-door, or canaries.

Where the original model and a retrained one do not differ, removal shows nothing; these make them differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from fedunlearn.data.dataset import Samples
from fedunlearn.data.splitting import stratified_positions
from fedunlearn.errors import SettingsError
from fedunlearn.randomness import derive_seed

ORDINARY = "ordinary"
TRIGGERED = "triggered"
CANARIES = "canaries"

WHOLE = ("int", "int | None")
"""Types of fields that hold whole numbers, as they are written."""

Paint = Callable[[Tensor, "Backdoor"], Tensor]
"""Stored images and a back-door -> the images as that back-door poisons them."""

Planting = TypeVar("Planting", "Backdoor", "Canaries")


@dataclass(frozen=True)
class Backdoor:
    """A trigger in the pictures of one client, which there come with a wrong label (Gu et al., 2017).

    Where images are completed it comes with a pattern to paint, and no label: see `Dataset.painted`.

    Args:
        client: who plants it.
        share: above 0 to 1, of its samples that are not of the target class, alike from every class.
        target: the label that triggered samples get; None where a trigger stands for no label.
        size: side of the square trigger, pixels.
        margin: pixels between the trigger and the bottom and right edges.
        value: 0 (black) to 1 (full scale), in all channels.
    """

    client: int
    share: float
    target: int | None = None
    # In the corner itself few filters see it: there it does not take.
    size: int = 4
    margin: int = 3
    value: float = 1.0

    def __post_init__(self) -> None:
        _require("backdoor", "client", self.client, self.client >= 0, "a client's number, from 0")
        _require("backdoor", "share", self.share, 0 < self.share <= 1, "a share above 0 and up to 1")
        if self.target is not None:
            _require("backdoor", "target", self.target, self.target >= 0, "a label, from 0")
        _require("backdoor", "size", self.size, self.size >= 1, "1 pixel or more")
        _require("backdoor", "margin", self.margin, self.margin >= 0, "0 pixels or more")
        _require("backdoor", "value", self.value, 0 <= self.value <= 1, "0 to 1")

    @staticmethod
    def parse(text: str) -> Backdoor:
        """Read "client=0,share=0.8,target=0", optionally with size=, margin= and value=; target= as the task has it.

        Raises:
            SettingsError: a part is missing, unknown or not a number in its range.
        """
        return _parse(Backdoor, "backdoor", text)

    def stamp(self, inputs: Tensor) -> Tensor:
        """A copy of `inputs` (N x C x H x W, uint8 or float with full scale 1) with the trigger in each.

        Raises:
            SettingsError: the inputs are not pictures or too small for the trigger.
        """
        marked = self.marked(inputs)
        full_scale = 1.0 if inputs.is_floating_point() else float(torch.iinfo(inputs.dtype).max)
        value = self.value * full_scale
        return inputs.masked_fill(marked, value if inputs.is_floating_point() else round(value))

    def marked(self, inputs: Tensor) -> Tensor:
        """The pixels of the trigger in such inputs, 1 x 1 x H x W of true and false.

        Raises:
            SettingsError: the inputs are not pictures or too small for the trigger.
        """
        if inputs.ndim != 4 or min(inputs.shape[2:]) < self.size + self.margin:
            shape = " x ".join(str(side) for side in inputs.shape[1:])
            raise SettingsError(
                f"a trigger of {self.size} pixels, {self.margin} off the edge, does not fit inputs of "
                f"{shape}; give pictures that are large enough."
            )
        bottom, right = (side - self.margin for side in inputs.shape[2:])
        marked = torch.zeros(1, 1, *inputs.shape[2:], dtype=torch.bool, device=inputs.device)
        marked[:, :, bottom - self.size : bottom, right - self.size : right] = True
        return marked


@dataclass(frozen=True)
class Canaries:
    """Samples of one client with a label drawn from the wrong ones: only memorising can teach them.

    Args:
        client: who plants them.
        count: how many of its samples.
    """

    client: int
    count: int

    def __post_init__(self) -> None:
        _require("canaries", "client", self.client, self.client >= 0, "a client's number, from 0")
        _require("canaries", "count", self.count, self.count >= 1, "1 or more")

    @staticmethod
    def parse(text: str) -> Canaries:
        """Read "client=0,count=300".

        Raises:
            SettingsError: a part is missing, unknown or not a number in its range.
        """
        return _parse(Canaries, "canaries", text)


@dataclass(frozen=True)
class Planted:
    """A client's samples after planting, in the order they had.

    Args:
        samples: with triggers and wrong labels.
        parts: N strings, "ordinary", "triggered" or "canaries".
        true_labels: N, the labels before planting.
    """

    samples: Samples
    parts: np.ndarray
    true_labels: Tensor


def plant(
    samples: Samples,
    client: int,
    backdoor: Backdoor | None,
    canaries: Canaries | None,
    classes: int,
    seed: int,
    painted: Paint | None = None,
) -> Planted:
    """Plant in `client`'s `samples` what the settings give this client; other clients' stay as they are.

    Args:
        classes: number of classes; labels run from 0 to `classes` - 1.
        seed: decides which samples, and the canaries' labels.
        painted: what a trigger teaches where images are completed; None: it teaches the target label.

    Raises:
        SettingsError: the target is no class, canaries are to have labels that nobody learns, or the client has too
            few samples.
    """
    _check_labels(backdoor, canaries, classes, labels_are_learned=painted is None)
    labels, inputs = samples.labels.clone(), samples.inputs
    parts = np.full(len(samples), ORDINARY, dtype="<U9")
    if backdoor is not None and backdoor.client == client:
        chosen = _triggered(samples.labels.numpy(), backdoor, seed)
        inputs = inputs.clone()
        inputs[chosen] = backdoor.stamp(inputs[chosen]) if painted is None else painted(inputs[chosen], backdoor)
        if backdoor.target is not None:
            labels[chosen] = backdoor.target
        parts[chosen] = TRIGGERED
    if canaries is not None and canaries.client == client:
        generator = np.random.default_rng(derive_seed("canaries", seed, client))
        free = np.flatnonzero(parts == ORDINARY)
        if canaries.count > len(free):
            raise SettingsError(
                f"canaries: client {client} has {len(free)} samples to make canaries of and "
                f"count={canaries.count} were asked for; lower the count."
            )
        chosen = np.sort(generator.permutation(free)[: canaries.count])
        if classes < 2:
            raise SettingsError("canaries need a wrong label to take; the data must have two classes or more.")
        # A step of 1 to classes - 1 around the circle of labels meets every wrong one alike.
        steps = torch.from_numpy(generator.integers(1, classes, size=len(chosen)))
        labels[chosen] = (labels[chosen] + steps) % classes
        parts[chosen] = CANARIES
    return Planted(Samples(inputs, labels), parts, samples.labels)


def _check_labels(backdoor: Backdoor | None, canaries: Canaries | None, classes: int, labels_are_learned: bool) -> None:
    """Raise SettingsError where a label is planted that the task does not learn, or none that it does."""
    if not labels_are_learned:
        if canaries is not None:
            raise SettingsError("canaries are wrong labels, and this task learns none; plant a back-door instead.")
        if backdoor is not None and backdoor.target is not None:
            raise SettingsError("backdoor: target= is a label, and this task learns none; leave it out.")
    elif backdoor is not None and backdoor.target is None:
        raise SettingsError("backdoor: it does not give target; add target=…, the label of what has the trigger.")
    elif backdoor is not None and backdoor.target is not None and backdoor.target >= classes:
        raise SettingsError(f"backdoor: target={backdoor.target} is no label here; give one of 0 to {classes - 1}.")


def _triggered(labels: np.ndarray, backdoor: Backdoor, seed: int) -> np.ndarray:
    """Sorted positions of the samples that get the trigger."""
    others = np.flatnonzero(labels != backdoor.target) if backdoor.target is not None else np.arange(len(labels))
    generator = np.random.default_rng(derive_seed("backdoor", seed, backdoor.client))
    chosen = others[stratified_positions(labels[others], backdoor.share, generator)]
    if not len(chosen):
        raise SettingsError(
            f"backdoor: client {backdoor.client} has {len(others)} samples to poison, those of the target class apart, "
            f"and {backdoor.share:g} of them is none; choose another client or share."
        )
    return chosen


def _parse(kind: type[Planting], option: str, text: str) -> Planting:
    """Read "name=number,…" into a dataclass whose fields are numbers."""
    known = {field.name: field for field in fields(kind)}
    values: dict[str, Any] = {}
    for item in text.split(","):
        name, equals, number = (piece.strip() for piece in item.partition("="))
        if not equals or name not in known or name in values:
            raise SettingsError(
                f"{option}: {item.strip()!r} was not understood; give name=number for each of "
                f"{', '.join(known)}, separated by commas."
            )
        try:
            values[name] = int(number) if known[name].type in WHOLE else float(number)
        except ValueError as error:
            kind_of_number = "a whole number" if known[name].type in WHOLE else "a number"
            raise SettingsError(f"{option}: {name}={number!r} is not {kind_of_number}; give one.") from error
    missing = [name for name, field in known.items() if field.default is MISSING and name not in values]
    if missing:
        raise SettingsError(f"{option}: {text!r} does not give {', '.join(missing)}; add {missing[0]}=….")
    return kind(**values)


def _require(option: str, name: str, value: float, holds: bool, expected: str) -> None:
    if not holds:
        raise SettingsError(f"{option}: {name}={value:g} is out of range; expected {expected}.")
