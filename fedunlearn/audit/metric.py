"""What a metric is: what is computed where the data is, what of it may leave, and what the server makes of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from fedunlearn.registry import Registry

if TYPE_CHECKING:
    import torch

    from fedunlearn.audit.subject import Subject
    from fedunlearn.tasks.base import Task

Role = Literal["target", "remaining", "server"]
"""Who measures. "remaining": every client that keeps samples to train on, a target that keeps some included;
"server": the central test set, which is nobody's secret."""

Tier = Literal["quick", "standard", "full"]
"""quick: seconds. standard: 8 retrained models. full: 20 and more."""

Answers = Literal["anything", "classes", "images"]

Finding = Mapping[str, int | float | list[int]]
"""What one measurement gives: numbers and lists of counts, by the names that the metric declares."""


@dataclass(frozen=True)
class Sizes:
    """What the length of a list may depend on: numbers of classes and of models."""

    classes: int
    references: int = 0
    shadows: int = 0
    updates: int = 0


@dataclass(frozen=True)
class Sent:
    """One name that a measurement may send from where the data is.

    Attributes:
        length: how long the list of counts is, or a function of the sizes; None for a single number.
        several: the list adds up to `MINIMUM_SAMPLES` samples at least, or the single number is that large.
        whole: a single number is a count: whole, 0 or more. Lists are lists of counts, unless `real`.
        of: name of the count of samples that the number is a sum over, which has to come with it and be
            `MINIMUM_SAMPLES` at least; "" for a number that no sample's value can be read from.
        real: the list holds finite numbers, each a sum over the samples of `of`.
        each: every count in the list is 0, or `MINIMUM_SAMPLES` at least.
    """

    length: int | Callable[[Sizes], int] | None = None
    several: bool = False
    whole: bool = False
    of: str = ""
    real: bool = False
    each: bool = False

    def expected_length(self, sizes: Sizes) -> int | None:
        """The length for these sizes; None for a single number."""
        return self.length(sizes) if callable(self.length) else self.length


def histogram(length: int | Callable[[Sizes], int]) -> Sent:
    """A list of counts that is only sent for `MINIMUM_SAMPLES` samples and more."""
    return Sent(length, several=True)


def counts(length: int | Callable[[Sizes], int], each: bool = False) -> Sent:
    """A list of counts that tells nobody's value, such as right answers a class; sent for any number of samples.

    Args:
        each: whether every one of them has to be 0, or 20 at least, because sums over such groups come with them.
    """
    return Sent(length, each=each)


def count(several: bool = False) -> Sent:
    """A whole number from 0 upwards."""
    return Sent(several=several, whole=True)


def sum_over(samples: str) -> Sent:
    """A sum over the samples whose count is sent under the name `samples`, 20 at least."""
    return Sent(of=samples)


def sums(length: int | Callable[[Sizes], int], samples: str) -> Sent:
    """A list of sums over the samples whose count is sent under the name `samples`, 20 at least."""
    return Sent(length, of=samples, real=True)


def number() -> Sent:
    """A single number that no sample's value can be read from, such as seconds or a distance between weights."""
    return Sent()


@dataclass(frozen=True)
class Value:
    """One value of a metric.

    Attributes:
        value: None where nothing can be said; `refused` then says why, where there is a reason to give.
        kind: how the verdict transforms it: "rate" by logit((k + 0.5) / (N + 1)), "loss" by log, "number" not at all.
        of: N of a rate, so that k is `value` times N: samples, or the smaller of two groups compared; else None.
        refused: one sentence, or empty.
    """

    value: float | None
    kind: Literal["rate", "loss", "number"] = "number"
    of: int | None = None
    refused: str = ""

    @staticmethod
    def rate(value: float | None, of: float) -> Value:
        """A share, 0 to 1, of `of` samples, rounded down where they are what a weighted sample is worth."""
        return Value(value, "rate", int(of))

    @staticmethod
    def loss(value: float | None) -> Value:
        """A loss, 0 upwards."""
        return Value(value, "loss")

    @staticmethod
    def refusal(why: str) -> Value:
        """No value, and why."""
        return Value(None, refused=why)

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"value": self.value, "kind": self.kind, "of": self.of, "refused": self.refused}


@dataclass(frozen=True)
class Gathered:
    """Everybody's findings on one model, on the server.

    Attributes:
        target: client -> finding, in the order of their ids; so `remaining`.
        server: the finding on the test set; None when the metric does not ask for it.
        sizes: classes, and models that were used.
        forgotten_classes: what the requests name; empty where they name none.
        seed: for splits that `combine` draws.
    """

    sizes: Sizes
    target: Mapping[int, Finding] = field(default_factory=dict)
    remaining: Mapping[int, Finding] = field(default_factory=dict)
    server: Finding | None = None
    forgotten_classes: tuple[int, ...] = ()
    seed: int = 0


Measure = Callable[["Subject", "torch.Generator"], Finding]
Combine = Callable[[Gathered], Mapping[str, Value]]
Range = tuple[float, float]

SHARE: Range = (0.0, 1.0)
UPWARDS: Range = (0.0, math.inf)
ANY: Range = (-math.inf, math.inf)


@dataclass(frozen=True)
class Metric:
    """One reported number, or a family of them that are measured together.

    Attributes:
        name: its key in documents; the first of `values`, which are named `name` or `name.detail`.
        what: one line, with the range.
        better: which value is good. "retrained": that of the model retrained without the forgotten data,
            neither less nor more; "lower": the less the better.
        tier: the smallest audit that measures it; None: a comparison reports it, and nothing is measured by name.
        roles: who measures.
        needs: kind of further models ("references", "before", "retrained", "updates", "shadows": see `Subject`) ->
            the fewest it works with; with fewer every value is refused with `limits` as the reason.
        limits: one sentence on what `needs` is for; empty where nothing is needed.
        sends: name -> what may leave under it. The guard lets nothing else pass.
        values: name of each value -> its range.
        answers: what the task has to answer with: "classes" (scores of them), "images", or "anything", for a metric
            that makes do with the loss or the weights. Of other tasks every value is refused.
        measure: runs where the data is, on one `Subject`; a pure function of it and the generator.
        combine: runs on the server.
    """

    name: str
    what: str
    better: Literal["retrained", "lower"] = "retrained"
    tier: Tier | None = None
    roles: frozenset[Role] = frozenset()
    needs: Mapping[str, int] = field(default_factory=dict)
    limits: str = ""
    sends: Mapping[str, Sent] = field(default_factory=dict)
    values: Mapping[str, Range] = field(default_factory=dict)
    answers: Answers = "anything"
    measure: Measure | None = None
    combine: Combine | None = None

    def unsuited(self, task: Task) -> str | None:
        """Why it says nothing of such a task, in one sentence; None when it does."""
        if self.answers == "anything" or self.answers in answers_of(task):
            return None
        return f"{self.name} is computed from answers that are {self.answers}, and task {task.name!r} gives none."

    def lacking(self, given: Mapping[str, int]) -> str | None:
        """Why these numbers of further models are too few, in one sentence; None when they suffice."""
        for kind, fewest in self.needs.items():
            if given.get(kind, 0) < fewest:
                few = f"{self.name} needs {_MODELS[kind].format(fewest)} and was given {given.get(kind, 0)}"
                return f"{few}; {self.limits}" if self.limits else f"{few}."
        return None


def answers_of(task: Task) -> frozenset[Answers]:
    """What a task answers with."""
    from fedunlearn.tasks.base import ImageToImageTask, LogitsTask

    kinds: dict[Answers, type] = {"classes": LogitsTask, "images": ImageToImageTask}
    return frozenset(answers for answers, kind in kinds.items() if isinstance(task, kind))


_MODELS = {
    "references": "{} retrained reference models",
    "shadows": "{} other originals unlearned in the same way",
    "updates": "the updates of {} remaining clients",
    "before": "the model before unlearning ({})",
    "retrained": "{} retrained model beside the references",
}


@dataclass(frozen=True)
class Later:
    """A function of a module that is imported when it is first called, so that listing metrics stays quick."""

    module: str
    name: str

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        return getattr(import_module(self.module), self.name)(*arguments)


metrics: Registry[Metric] = Registry("metric", group="fedunlearn.metrics")


def measurable(tier: Tier = "full") -> tuple[str, ...]:
    """Names of the metrics that an audit of this tier measures, sorted."""
    known = [(name, metrics.get(name)) for name in metrics.names()]
    tiers: tuple[Tier, ...] = ("quick", "standard", "full")
    wanted = tiers[: tiers.index(tier) + 1]
    return tuple(name for name, metric in known if metric.tier in wanted)
