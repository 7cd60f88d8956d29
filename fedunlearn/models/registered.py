"""The registry of networks; packages add theirs under the entry-point group `fedunlearn.networks`."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from fedunlearn.errors import SettingsError
from fedunlearn.registry import Registry

InputShape = tuple[int, int, int]
NetworkFactory = Callable[[InputShape, int], nn.Module]

networks: Registry[NetworkFactory] = Registry("network", group="fedunlearn.networks")


def require_size(network: str, input_shape: InputShape, smallest: int) -> None:
    """Raise SettingsError unless inputs are images of at least `smallest` x `smallest` pixels."""
    if len(input_shape) != 3 or min(input_shape[1:]) < smallest:
        raise SettingsError(
            f"network {network!r} needs images of at least {smallest}x{smallest} pixels, and the inputs are "
            f"{' x '.join(map(str, input_shape))}; choose another network."
        )
