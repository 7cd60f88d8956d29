"""The forgetting score of the 2023 machine unlearning challenge, sample by sample (Triantafillou et al. 2024).

From N models that unlearned a sample and N that never saw it: the best single or double threshold on the margin
bounds the privacy loss epsilon of the unlearning. Epsilon falls into steps of 0.5, a step counts half as much as the
one before, and the mean over the forget set is multiplied by what was kept of the accuracies. Written anew after the
definition (the public code fails where several thresholds are kept); that attacks may also say "unlearned" outside of
an interval is this project's *reconstruction*.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor

from fedunlearn.audit.counts import MINIMUM_SAMPLES, add
from fedunlearn.audit.lira import margins_of
from fedunlearn.audit.metric import Finding, Gathered, Sizes, Value
from fedunlearn.audit.subject import Subject
from fedunlearn.data.dataset import Samples

NAME = "epsilon_score"
DELTA = 1e-5
CAP = 50.0
STEP = 0.5
FEWEST_DRAWS, MOST_DRAWS, MOST_PAIRS = 20, 1000, 400_000


def epsilon(unlearned: Tensor, retrained: Tensor) -> float:
    """The largest privacy loss that a threshold attack on one sample shows, 0 to 50.

    Attacks say "unlearned" on an interval of margins or outside of it, half-lines included. One that errs in neither
    way counts as 50; one that never errs in exactly one way is left out, for its other rate alone says little.

    Args:
        unlearned, retrained: the sample's margin in each model, (N,) and (N,).
    """
    models = len(unlearned)
    values, order = torch.cat([unlearned, retrained]).sort(stable=True)
    caught = torch.cat([torch.zeros(1), (order < models).double().cumsum(0)]).double()
    wrongly = torch.cat([torch.zeros(1), (order >= models).double().cumsum(0)]).double()
    # No threshold lies between equal margins.
    cuts = torch.cat([torch.tensor([True]), values[1:] != values[:-1], torch.tensor([True])])
    caught, wrongly = caught[cuts], wrongly[cuts]
    first, last = torch.triu_indices(len(caught), len(caught), offset=1)
    true, false = (caught[last] - caught[first]) / models, (wrongly[last] - wrongly[first]) / len(retrained)
    false_positive, false_negative = torch.cat([false, 1 - false]), torch.cat([1 - true, true])
    if bool(((false_positive == 0) & (false_negative == 0)).any()):
        return CAP
    both = (false_positive > 0) & (false_negative > 0)
    if not bool(both.any()):
        return 0.0
    a, b = false_positive[both], false_negative[both]
    bounds = torch.cat([(1 - DELTA - a).log() - b.log(), (1 - DELTA - b).log() - a.log()]).nan_to_num(nan=0.0)
    return float(bounds.max().clamp(0.0, CAP))


def largest_epsilon(models: int) -> float:
    """The largest finite epsilon that `models` models of either kind can show: log(N - 1)."""
    return math.log(models - 1) if models > 1 else 0.0


def steps(models: int) -> int:
    """Number of steps of 0.5 up to the largest epsilon, rounded up to a whole epsilon; 14 for 512 models."""
    return max(1, math.ceil(largest_epsilon(models)) * round(1 / STEP))


def step_of(value: float, models: int) -> int:
    """The step that an epsilon falls into; the last one holds all that is larger."""
    return min(int(value / STEP), steps(models) - 1)


def forgetting(histogram: list[int]) -> float:
    """Mean of 2 to the power of minus the step, 0 to 1."""
    return sum(samples * 2.0**-step for step, samples in enumerate(histogram)) / sum(histogram)


@lru_cache(maxsize=16)
def null_forgetting(models: int, seed: int = 0) -> float:
    """What `forgetting` is on average when both kinds of models are the same: far below 1, for 20 models about 0.1.

    It depends on the order of the margins alone, which then is random: 1000 orders are drawn for 20 models, fewer
    for more of them, down to 20. An attacker who may choose among all intervals finds one that fits by chance.
    """
    generator = torch.Generator().manual_seed(seed)
    histogram = [0] * steps(models)
    for _ in range(min(MOST_DRAWS, max(FEWEST_DRAWS, MOST_PAIRS // models**2))):
        order = torch.randperm(2 * models, generator=generator).double()
        histogram[step_of(epsilon(order[:models], order[models:]), models)] += 1
    return forgetting(histogram)


def models_of(sizes: Sizes) -> int:
    """N: how many models of either kind are used."""
    return min(sizes.shadows, sizes.references)


def list_length(sizes: Sizes) -> int:
    """Length of the list of steps that a target sends."""
    return steps(models_of(sizes))


def measure(subject: Subject, generator: torch.Generator) -> Finding:
    """How many forgotten samples fall into each step (target); right answers of both worlds (others)."""
    models = models_of(subject.sizes)
    unlearned, retrained = subject.shadows[:models], subject.references[:models]
    if subject.role == "target":
        if len(subject.forget) < MINIMUM_SAMPLES:
            return {}
        ours, theirs = margins_of(subject, unlearned, subject.forget), margins_of(subject, retrained, subject.forget)
        found = [step_of(epsilon(ours[:, i], theirs[:, i]), models) for i in range(len(subject.forget))]
        return {"steps": torch.bincount(torch.tensor(found), minlength=steps(models)).tolist()}
    samples = subject.held_out if subject.role == "server" else subject.retained
    return {
        "unlearned": sum(_right(subject, state, samples) for state in unlearned),
        "retrained": sum(_right(subject, state, samples) for state in retrained),
    }


def _right(subject: Subject, state: Mapping[str, Tensor], samples: Samples) -> int:
    return int((subject.evaluate(state, samples).predictions == samples.labels).sum())


def combine(gathered: Gathered) -> Mapping[str, Value]:
    """The forgetting quality, its value for equal worlds, the final score, and the largest epsilon measurable."""
    models = models_of(gathered.sizes)
    largest = Value(largest_epsilon(models))
    told = add(finding for finding in gathered.target.values() if finding)
    retained = add(finding for finding in gathered.remaining.values() if finding)
    if told is None:
        refused = Value.refusal(f"{NAME} needs {MINIMUM_SAMPLES} samples in the forget set of a target.")
        return {**dict.fromkeys((NAME, f"{NAME}.final", f"{NAME}.null"), refused), f"{NAME}.largest_epsilon": largest}
    quality = forgetting(told["steps"])
    kept = [part["unlearned"] / part["retrained"] for part in (retained, gathered.server) if part and part["retrained"]]  # type: ignore[operator]
    final = quality * kept[0] * kept[1] if len(kept) == 2 else None
    return {
        NAME: Value(quality),
        f"{NAME}.final": Value(final),
        f"{NAME}.null": Value(null_forgetting(models)),
        f"{NAME}.largest_epsilon": largest,
    }
