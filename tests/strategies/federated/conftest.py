"""A tiny task, and the work of one client on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedunlearn.channels.layout import channel_layout
from fedunlearn.channels.packing import Portion
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.strategies.method import Work
from fedunlearn.tasks.classification import ClassificationTask
from fedunlearn.tasks.training import TrainingSettings

MakeWork = Callable[..., Work]
TASK = ClassificationTask("tiny", "none")


@dataclass
class Kept:
    """What a client put into its own folder."""

    arrays: dict[str, Mapping[str, np.ndarray]] = field(default_factory=dict)

    def __call__(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays[name] = arrays


def samples(count: int, shape: tuple[int, ...], classes: int, seed: int) -> Samples:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    inputs = torch.rand((count, *shape), generator=generator) + labels.reshape(-1, *[1] * len(shape)) * 0.3
    return Samples(inputs, labels)


@pytest.fixture
def network() -> nn.Module:
    """A convolution with three channels, a dense layer with four, three classes; inputs 1 x 4 x 4."""
    torch.manual_seed(5)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 3))


@pytest.fixture
def make_work(network: nn.Module) -> MakeWork:
    """`make_work(forget=..., retain=..., **fields)`: the work of one client on the small network."""

    def make(model: nn.Module | None = None, **changes: Any) -> Work:
        model = model or network
        some = samples(48, (1, 4, 4), 3, 1)
        base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        settings = UnlearnSettings(rounds=1, options=changes.pop("options", {}))
        fields: dict[str, Any] = {
            "role": "target",
            "task": TASK,
            "model": model,
            "base": base,
            "layout": channel_layout(model, changes.get("retain", some).inputs[:2]),
            "mask": None,
            "portion": Portion.everything(base),
            "classes": 3,
            "forget": samples(30, (1, 4, 4), 3, 2),
            "retain": some,
            "held_out": samples(9, (1, 4, 4), 3, 3),
            "arrays": {},
            "settings": settings,
            "training": TrainingSettings(2, 0.1, batch_size=16),
            "round": 0,
            "generator": torch.Generator().manual_seed(7),
            "keep": Kept(),
        }
        return Work(**{**fields, **changes})

    return make


def flat(model: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([tensor.to(torch.float64).flatten() for tensor in model.values()])
