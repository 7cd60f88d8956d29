"""Where a network gets adapters: the feed-forward layers of a transformer's blocks, or the layers of any other."""

from __future__ import annotations

from torch import nn

from fedunlearn.channels.adapters import can_be_adapted
from fedunlearn.channels.layout import Layout
from fedunlearn.errors import NoChannels

Groups = tuple[tuple[str, ...], ...]


def adapter_places(network: nn.Module, layout: Layout) -> Groups:
    """The layers that get an adapter, in groups, in the order of execution.

    In a transformer these are the linear layers beside attention, a group for each block: the smallest part of the
    network that holds both. In a network without attention every layer with channels is a group of its own.

    Raises NoChannels where there is none.
    """
    modules = dict(network.named_modules())
    layers = [group.layer for group in layout.groups if can_be_adapted(modules[group.layer])]
    attention = {name for name, module in modules.items() if name and type(module).__name__.endswith("Attention")}
    if not attention:
        found: Groups = tuple((layer,) for layer in layers)
    else:
        by_block: dict[str, list[str]] = {}
        for layer in layers:
            block = _block_of(layer, attention)
            if block and isinstance(modules[layer], nn.Linear):
                by_block.setdefault(block, []).append(layer)
        found = tuple(tuple(block) for block in by_block.values())
    if not found:
        raise NoChannels(f"{type(network).__name__} has no layer for adapters: expected feed-forward or convolutional.")
    return found


def _block_of(layer: str, attention: set[str]) -> str:
    """The smallest part around the layer that holds attention; "": only the whole network does."""
    parts = layer.split(".")
    for length in range(len(parts) - 1, 0, -1):
        prefix = ".".join(parts[:length])
        if any(name.startswith(f"{prefix}.") for name in attention):
            return prefix
    return ""
