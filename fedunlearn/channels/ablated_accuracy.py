"""Ablation by accuracy: how many more samples are answered wrongly when a channel's output is set to zero."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fedunlearn.channels.explained import intercepted
from fedunlearn.channels.layout import ChannelGroup, Layout, evaluation_mode

Predict = Callable[[nn.Module, Tensor], Tensor]


@torch.no_grad()
def accuracy_drops(
    model: nn.Module, predict: Predict, inputs: Tensor, labels: Tensor, layout: Layout
) -> dict[str, Tensor]:
    """Accuracy of the model minus its accuracy with the channel silent, -1 to 1, float64 one a channel, by layer.

    The measure of single units of Zhou et al. 2018 (arXiv 1806.02891). One forward pass a channel; most drops are
    multiples of one over the number of samples, and many are zero.

    Args:
        predict: `(model, inputs) -> logits`, N x K.
        inputs: as the model takes them, N x ...; one sample at least.
        labels: N.
    """
    with evaluation_mode(model):
        whole = _right(predict(model, inputs), labels)
        drops = {}
        for group in layout.groups:
            without = [
                _right(_silenced(model, predict, inputs, group, channel), labels) for channel in range(group.channels)
            ]
            drops[group.layer] = whole - torch.tensor(without, dtype=torch.float64)
    return drops


def _silenced(model: nn.Module, predict: Predict, inputs: Tensor, group: ChannelGroup, channel: int) -> Tensor:
    def silence(_group: ChannelGroup, output: Tensor) -> Tensor:
        quiet = output.clone()
        quiet.select(group.channel_dim, channel).zero_()
        return quiet

    with intercepted(model, [group], silence):
        return predict(model, inputs)


def _right(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(dim=1) == labels).double().mean())
