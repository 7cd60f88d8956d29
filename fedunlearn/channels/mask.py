"""The channel mask: which channels of which layers a deletion request was localised in."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedunlearn.channels.layout import Layout
from fedunlearn.channels.packing import Portion, check_indices
from fedunlearn.errors import SettingsError


@dataclass(frozen=True, eq=False)
class ChannelMask:
    """The selected channels, by layer: sorted int64 tensors of distinct channel indices.

    A layer that is absent and a layer with no index both select nothing; two masks that select the same
    channels are equal and have the same digest.

    Raises SettingsError if the indices of a layer are not sorted, distinct and non-negative.
    """

    selected: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        for layer, channels in self.selected.items():
            check_indices(channels, f"the channels of layer {layer}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ChannelMask) and self._canonical() == other._canonical()

    def __hash__(self) -> int:
        return hash(self.digest())

    @staticmethod
    def empty(layout: Layout) -> ChannelMask:
        """The mask that selects no channel."""
        return ChannelMask({group.layer: torch.zeros(0, dtype=torch.int64) for group in layout.groups})

    @staticmethod
    def full(layout: Layout) -> ChannelMask:
        """The mask that selects every channel of every layer."""
        return ChannelMask({group.layer: torch.arange(group.channels) for group in layout.groups})

    @staticmethod
    def union(masks: Iterable[ChannelMask]) -> ChannelMask:
        """The channels that at least one of the masks selects (several targets, one request)."""
        collected: dict[str, list[Tensor]] = {}
        for mask in masks:
            for layer, channels in mask.selected.items():
                collected.setdefault(layer, []).append(channels)
        return ChannelMask({layer: torch.unique(torch.cat(parts)) for layer, parts in collected.items()})

    @staticmethod
    def from_arrays(arrays: Mapping[str, np.ndarray]) -> ChannelMask:
        """The mask that `to_arrays` wrote; raises SettingsError if an array is not an integer vector."""
        selected = {}
        for layer, array in arrays.items():
            if array.ndim != 1 or array.dtype.kind not in "iu":
                raise SettingsError(
                    f"the mask of layer {layer} is {array.dtype} {array.shape}: expected an integer vector."
                )
            selected[layer] = torch.from_numpy(array.astype(np.int64))
        return ChannelMask(selected)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The selected indices by layer as int32 arrays, as they travel."""
        return {layer: channels.numpy().astype(np.int32) for layer, channels in self.selected.items()}

    def count(self) -> int:
        """How many channels are selected, over all layers."""
        return sum(channels.numel() for channels in self.selected.values())

    def ratio(self, layout: Layout) -> float:
        """Selected channels as a share (0..1) of all channels of the layout."""
        self.validate(layout)
        return self.count() / layout.total_channels

    def validate(self, layout: Layout) -> None:
        """Refuse a mask that names a layer or a channel which the layout lacks (SettingsError)."""
        channels_of = {group.layer: group.channels for group in layout.groups}
        for layer, channels in self.selected.items():
            if layer not in channels_of:
                known = ", ".join(channels_of)
                raise SettingsError(f"the mask names layer {layer}, which has no channels here: layers are {known}.")
            if channels.numel() and int(channels[-1]) >= channels_of[layer]:
                raise SettingsError(
                    f"the mask selects channel {int(channels[-1])} of layer {layer}, which has"
                    f" {channels_of[layer]} channels: use a mask made for this network."
                )

    def cut_back(self, scores: Mapping[str, Tensor], ratio: float | Mapping[str, float], layout: Layout) -> ChannelMask:
        """Keep at most ceil(ratio x channels) selected channels in each layer: those of the highest scores.

        `scores` maps a layer to a score for every channel (see `votes` when only masks are known); equal
        scores keep the lower index. `ratio` is 0..1, for all layers or by layer (a layer not named keeps
        nothing).

        Raises SettingsError for a ratio outside 0..1, or a mask or score of another network.
        """
        self.validate(layout)
        kept = {}
        for group in layout.groups:
            chosen = self.selected.get(group.layer, torch.zeros(0, dtype=torch.int64))
            limit = channel_quota(ratio, group.layer, group.channels)
            if chosen.numel() > limit:
                if group.layer not in scores or scores[group.layer].shape != (group.channels,):
                    raise SettingsError(
                        f"layer {group.layer} needs one score for each of its {group.channels} channels."
                    )
                order = torch.argsort(scores[group.layer][chosen], descending=True, stable=True)
                chosen = chosen[order[:limit]].sort().values
            kept[group.layer] = chosen
        return ChannelMask(kept)

    def digest(self) -> str:
        """SHA-256 (hexadecimal) over the selected channels, layers in sorted order."""
        return hashlib.sha256(repr(self._canonical()).encode()).hexdigest()

    def portion(self, layout: Layout, output: bool = True) -> Portion:
        """What is trained and sent for this mask.

        The rows of every parameter and running statistic of each selected channel and, unless `output` is
        False, the whole output layer.

        Raises SettingsError if the mask does not fit the layout.
        """
        self.validate(layout)
        rows: dict[str, Tensor | None] = {}
        for group in layout.groups:
            channels = self.selected.get(group.layer)
            if channels is not None and channels.numel():
                for name in (*group.parameters, *group.buffers):
                    rows[name] = channels
        if output:
            rows.update(dict.fromkeys(layout.output))
        return Portion(rows)

    def _canonical(self) -> list[tuple[str, list[int]]]:
        return sorted((layer, channels.tolist()) for layer, channels in self.selected.items() if channels.numel())


def votes(masks: Sequence[ChannelMask], layout: Layout) -> dict[str, Tensor]:
    """How many of the masks select each channel: scores for cutting back a union of masks.

    Raises SettingsError if a mask does not fit the layout.
    """
    counts = {group.layer: torch.zeros(group.channels) for group in layout.groups}
    for mask in masks:
        mask.validate(layout)
        for layer, channels in mask.selected.items():
            counts[layer][channels] += 1
    return counts


def channel_quota(ratio: float | Mapping[str, float], layer: str, channels: int) -> int:
    """ceil(ratio x channels) of one layer; `ratio` is 0..1, for all layers or by layer (not named: 0).

    Raises SettingsError for a ratio outside 0..1.
    """
    share = ratio.get(layer, 0.0) if isinstance(ratio, Mapping) else ratio
    if not 0.0 <= share <= 1.0:
        raise SettingsError(f"the ratio of layer {layer} is {share}: give a share of its channels between 0 and 1.")
    # 0.1 x 30 is a little more than 3 in binary and must not become 4.
    return math.ceil(share * channels - 1e-9)
