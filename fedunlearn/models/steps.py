"""The convolutional steps that networks for images are made of here."""

from __future__ import annotations

from torch import nn

GROUPS = 8


def step(before: int, after: int, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution with GroupNorm and SiLU; GroupNorm keeps no statistics that clients would have to share."""
    return nn.Sequential(nn.Conv2d(before, after, 3, stride=stride, padding=1), nn.GroupNorm(GROUPS, after), nn.SiLU())
