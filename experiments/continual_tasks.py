"""The data of the experiment on continual forgetting: what clients still have when they are asked to forget."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch

from fedunlearn.data.dataset import Dataset
from fedunlearn.data.sources import load_dataset
from fedunlearn.randomness import derive_seed
from fedunlearn.tasks import ClassificationTask

CLASSES = 10
PER_REQUEST = 2
REQUESTS = 4


def class_order(seed: int) -> list[int]:
    """All classes, shuffled by the seed; requests name them from the end, and the first may go missing."""
    generator = torch.Generator().manual_seed(derive_seed("continual", seed))
    return torch.randperm(CLASSES, generator=generator).tolist()


def requested(seed: int) -> list[list[int]]:
    """The classes of each of the four requests: 10-2, 8-2, 6-2 and 4-2."""
    order = class_order(seed)
    return [sorted(order[len(order) - PER_REQUEST * (n + 1) :][:PER_REQUEST]) for n in range(REQUESTS)]


@lru_cache(maxsize=8)
def some_of_each(seed: int, count: int, without_first: bool = False) -> Dataset:
    """MNIST-5k with so many training samples of each class; perhaps none of the first of the order."""
    whole = load_dataset("mnist5k", seed)
    generator = torch.Generator().manual_seed(derive_seed("few", seed))
    kept = []
    for label in range(CLASSES):
        members = (whole.train.labels == label).nonzero().squeeze(1)
        if not (without_first and label == class_order(seed)[0]):
            kept.append(members[torch.randperm(len(members), generator=generator)[:count]])
        else:
            torch.randperm(len(members), generator=generator)
    return Dataset(whole.train.take(torch.cat(kept)), whole.test, whole.classes)


def _task(name: str, source: Callable[[int], Dataset]) -> ClassificationTask:
    return ClassificationTask(name, source, ("vit-small",), "vit-small")


QUARTER = _task("continual_tasks:QUARTER", lambda seed: some_of_each(seed, 100))
FOUR = _task("continual_tasks:FOUR", lambda seed: some_of_each(seed, 4))
MISSING = _task("continual_tasks:MISSING", lambda seed: some_of_each(seed, 100, True))
