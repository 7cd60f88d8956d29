"""The local training of a job in plain PyTorch: what every framework's client runs. Needs torch, and our networks."""

from __future__ import annotations

from typing import Any

import torch
from contender import BATCH, LEARNING_RATE, MOMENTUM, client_data
from torch import nn

from fedunlearn.models.lenet import LeNet
from fedunlearn.models.resnet import ResNet20

CLASSES = 10


def network(job: dict[str, Any]) -> nn.Module:
    """The job's network, freshly initialised."""
    torch.manual_seed(0)
    return LeNet((1, 28, 28), CLASSES) if job["network"] == "lenet" else ResNet20((3, 32, 32), CLASSES)


def tensors(job: dict[str, Any], client: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One client's samples."""
    inputs, labels = client_data(job, client)
    return torch.from_numpy(inputs), torch.from_numpy(labels)


def train(model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, seed: int) -> None:
    """One epoch of SGD with momentum, in place."""
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
    model.train()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    for batch in order.split(BATCH):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
        optimizer.step()
