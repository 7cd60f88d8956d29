"""Small networks of every kind that channels must be found in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

torch.set_num_threads(1)


class LeNet(nn.Module):
    """Activations and pooling as functions, as most people write it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3)
        self.conv2 = nn.Conv2d(4, 6, 3)
        self.hidden = nn.Linear(6 * 3 * 3, 8)
        self.output = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.relu(self.conv2(x)).flatten(1)
        return self.output(F.relu(self.hidden(x)))


class SharedLayers(nn.Module):
    """A user's module: one block under two names, run twice, and one layer that the output does not need."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.block = nn.Conv2d(4, 4, 3, padding=1)
        self.again = self.block
        self.unused = nn.Conv2d(4, 3, 1)
        self.hidden = nn.Linear(4, 6)
        self.output = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(self.block(x))
        x = torch.relu(self.again(x))
        self.unused(x)
        return self.output(torch.relu(self.hidden(x.mean(dim=(2, 3)))))


def group_norm_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.GroupNorm(2, 4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(4),
        nn.Flatten(),
        nn.Linear(16, 6),
        nn.ReLU(),
        nn.Linear(6, 5),
    )


def batch_norm_cnn() -> nn.Module:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(4),
        nn.Flatten(),
        nn.Linear(16, 6),
        nn.ReLU(),
        nn.Linear(6, 5),
    )
    model[1].running_mean.normal_()
    return model


def vision_transformer() -> nn.Module:
    model = torchvision.models.VisionTransformer(8, 4, 2, 2, 8, 12, num_classes=5)
    # Torchvision starts the head at zero, which would make every channel dead.
    nn.init.normal_(model.heads.head.weight)
    return model


@dataclass(frozen=True)
class Case:
    """A network with a few samples for it."""

    model: nn.Module
    inputs: Tensor
    labels: Tensor


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "lenet": (LeNet, (1, 12, 12)),
    "group-norm": (group_norm_cnn, (3, 8, 8)),
    "batch-norm": (batch_norm_cnn, (3, 8, 8)),
    "shared": (SharedLayers, (2, 6, 6)),
    "vit": (vision_transformer, (3, 8, 8)),
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=5), (3, 16, 16)),
}


@pytest.fixture
def build() -> Callable[[str], Case]:
    """Build a named network and six samples, always the same."""

    def make(name: str) -> Case:
        factory, shape = NETWORKS[name]
        with torch.random.fork_rng():
            torch.manual_seed(3)
            model = factory()
            return Case(model, torch.rand(6, *shape), torch.randint(0, 5, (6,)))

    return make


@pytest.fixture
def loss() -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    """Cross-entropy, one value a sample."""

    def cross_entropy(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(model(inputs), labels, reduction="none")

    return cross_entropy
