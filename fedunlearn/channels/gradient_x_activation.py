"""Gradient x activation: one backward pass scores the channels of all layers."""

from __future__ import annotations

from captum.attr import LayerGradientXActivation
from torch import Tensor

from fedunlearn.channels.explained import Explained


def gradient_x_activation(explained: Explained, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Summed over samples, |sum over space or tokens of activation x gradient of the log-likelihood|.

    To first order, how much the log-likelihood changes when the channel is taken out (Molchanov et al. 2017,
    "Pruning convolutional neural networks for resource efficient inference").
    """
    return {layer: scores.sum(dim=0) for layer, scores in of_each_sample(explained, inputs, labels).items()}


def of_each_sample(explained: Explained, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The same before it is summed, by layer: N x channels. Stays where the data is."""
    groups = explained.layout.groups
    taps = [tap for group in groups for tap in explained.taps(group.layer)]
    method = LayerGradientXActivation(explained, taps)
    products = iter(method.attribute(inputs, additional_forward_args=(labels,)) if taps else [])
    scores = {}
    for group in groups:
        values = [next(products) for _ in explained.taps(group.layer)]
        scores[group.layer] = explained.per_sample(group, values, len(inputs)).abs()
    return scores
