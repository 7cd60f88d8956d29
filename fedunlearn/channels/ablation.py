"""Ablation: how much the loss rises when a channel's output is set to zero."""

from __future__ import annotations

import torch
from captum.attr import FeatureAblation
from torch import Tensor

from fedunlearn.channels.explained import Explained, intercepted
from fedunlearn.channels.layout import ChannelGroup


def ablation(explained: Explained, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Summed over samples, the rise of the loss when the channel's output is zero; may be negative.

    This is the importance measure of Xu et al. 2024, "Update Selective Parameters" (*reconstruction*: the
    paper states that channels are ablated; the loss in place of the accuracy is ours). One forward pass a
    channel, one channel at a time, so that memory stays that of a forward pass.
    """
    return {group.layer: _rise(explained, group, inputs, labels) for group in explained.layout.groups}


def _rise(explained: Explained, group: ChannelGroup, inputs: Tensor, labels: Tensor) -> Tensor:
    def likelihood(gates: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        def gate(_group: ChannelGroup, output: Tensor) -> Tensor:
            explained.check_samples_first(group, output, len(gates))
            shape = [1] * output.dim()
            shape[0], shape[group.channel_dim] = len(output), group.channels
            repeated = gates.repeat_interleave(explained.rows_per_sample(group.layer), dim=0)
            return output * repeated.reshape(shape)

        with intercepted(explained.model, [group], gate):
            result: Tensor = explained(inputs, labels)
        return result

    # Captum ablates gates (N x channels, all one) in place of activations: a gate closes a channel in every
    # call of a layer that the model uses more than once.
    gates = torch.ones(len(inputs), group.channels, device=inputs.device)
    drops = FeatureAblation(likelihood).attribute(gates, additional_forward_args=(inputs, labels))
    total: Tensor = drops.sum(dim=0, dtype=torch.float64).cpu()
    return total
